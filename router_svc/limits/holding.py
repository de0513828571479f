"""What this process holds of one rate: shares that it was given for a moment. Pure."""

from collections import Counter, deque
from dataclasses import dataclass, field

from router_svc.limits.ports import Ask, Back, Given
from router_svc.limits.window import KEPT_SECONDS

# At most that part of a limit is asked for ahead of need, so that no instance sits on what
# others could use.
AHEAD = 1 / 20
# Time over which the use of a rate is taken, at least.
_SHORTEST_SECONDS = 0.05

Part = tuple[int, int]
"""Units that were given in a second: the second, and how many."""


@dataclass(slots=True)
class _Share:
    second: int
    units: int
    until: float


@dataclass(slots=True)
class Holding:
    """What is held of one rate.

    Attributes:
        model: The model.
        unit: What is counted: `requests` or `tokens`.
        name: Names the rate.
        free_at: When it is worth while to ask again for what was refused.
        refused: So many units were not free then; fewer may be.
        told_at: When there will be enough, by what was said at the last refusal.
    """

    model: str
    unit: str
    name: str = field(init=False)
    free_at: float = 0.0
    refused: int = 0
    told_at: float = 0.0
    _shares: deque[_Share] = field(default_factory=deque)
    # Units by the second in which they were given.
    _back: Counter[int] = field(default_factory=Counter)
    _used: int = 0
    _since: float = 0.0

    def __post_init__(self) -> None:
        self.name = f"{self.model}/{self.unit}"

    def left(self, now: float) -> int:
        """Returns how much may be used."""
        return sum(share.units for share in self._shares if share.until > now)

    def take(self, units: int, now: float) -> list[Part]:
        """Uses so much of what is left, the oldest first."""
        self._expire(now)
        self._used += units
        parts = []
        while units:
            share = self._shares[0]
            used = min(units, share.units)
            parts.append((share.second, used))
            share.units -= used
            units -= used
            if not share.units:
                self._shares.popleft()
        return parts

    def ask(self, limit: int, needs: list[int], now: float) -> Ask | None:
        """Returns what to ask for, so that calls that need so much go through; None for nothing."""
        left = self.left(now)
        missing = sum(needs) - left
        if missing <= 0:
            return None
        per_second = self._used / max(now - self._since, _SHORTEST_SECONDS)
        ahead = min(int(limit * AHEAD), int(per_second * KEPT_SECONDS))
        return Ask(self.name, limit, wanted=missing + ahead, least=max(1, min(needs) - left))

    def is_refused(self, units: int, now: float) -> bool:
        """Returns whether so many units are known not to be free."""
        return self.free_at > now and units - self.left(now) >= self.refused

    def put(self, ask: Ask, given: Given, now: float, *, patience_seconds: float) -> None:
        """Takes what was given, or that nothing was."""
        self._used, self._since = 0, now
        if given.units:
            self._shares.append(_Share(given.second, given.units, now + KEPT_SECONDS))
            self.free_at = self.told_at = 0.0
        else:
            self.told_at = now + given.wait_seconds
            self.free_at = now + min(given.wait_seconds, patience_seconds)
            self.refused = ask.least

    def give_back(self, parts: list[Part], units: int) -> None:
        """Puts some of what was used back, of the newest parts; below 0 for what came on top."""
        if units < 0:
            self._back[parts[-1][0]] += units
            return
        for second, used in reversed(parts):
            given = min(units, used)
            if not given:
                return
            self._back[second] += given
            units -= given

    def unwanted(self, now: float, *, everything: bool = False) -> list[Back]:
        """Returns what is to be put back: what is too old to be used, and what was returned."""
        self._expire(now, everything=everything)
        back, self._back = self._back, Counter()
        return [Back(self.name, second, units) for second, units in back.items() if units]

    def _expire(self, now: float, *, everything: bool = False) -> None:
        while self._shares and (everything or self._shares[0].until <= now):
            share = self._shares.popleft()
            self._back[share.second] += share.units
