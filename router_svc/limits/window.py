"""Gives out of rates from this process's memory, as `take_v1` of the database does."""

import math
from collections.abc import Callable, Mapping, Sequence

from router_svc.limits.ports import Ask, Back, Given

KEPT_SECONDS = 1
"""For how long what was given may be used."""
WINDOW_SECONDS = 60 + KEPT_SECONDS + 1
"""How long a second counts: the minute for which limits hold, the time for which what was
given in it may be kept, and the second itself."""


class MemoryRates:
    """A `RateStore` of one process.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._given: dict[str, dict[int, int]] = {}

    async def take(self, asks: Sequence[Ask], back: Sequence[Back]) -> Mapping[str, Given]:
        """See `RateStore`."""
        for each in back:
            seconds = self._given.get(each.name, {})
            if each.second in seconds:
                seconds[each.second] -= each.units
        return {ask.name: self._take(ask) for ask in asks}

    def _take(self, ask: Ask) -> Given:
        now = self._clock()
        second = math.floor(now)
        kept = self._given.get(ask.name, {})
        kept = {each: units for each, units in kept.items() if each > second - WINDOW_SECONDS}
        self._given[ask.name] = kept
        free = ask.limit - sum(kept.values())
        units = max(0, min(ask.wanted, free))
        if units < ask.least:
            return Given(0, second, _wait(kept, ask.least - free, second) + second - now)
        if units:
            kept[second] = kept.get(second, 0) + units
        return Given(units, second)


def _wait(kept: Mapping[int, int], missing: int, second: int) -> int:
    """Returns after how many seconds so many units have gone out of the window."""
    for each in sorted(kept):
        missing -= kept[each]
        if missing <= 0:
            return each + WINDOW_SECONDS - second
    return WINDOW_SECONDS
