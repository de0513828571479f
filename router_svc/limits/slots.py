"""The slots of one model that this process holds, and who waits for one."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from router_svc.limits.ports import Claim, Grant

TURN_SECONDS: Final = 0.25
"""For how long a slot that others want is still used here, where they have fewer."""


class ModelSlots:
    """What is held of one model's slots.

    Args:
        model: The model.
        most: Its concurrency.
        clock: Monotonic seconds.
        lacking: Called when a call waits.

    Attributes:
        model: The model.
        most: Its concurrency.
        held: How many calls may be under way here, while the lease lasts.
        in_use: How many are.
        until: When the lease ends: no call begins then.
        timeout_seconds: The longest time of a try, as far as is known.
        kept_seconds: How long calls go on at most after the lease's end.
    """

    __slots__ = (
        "_clock",
        "_due_at",
        "_lacking",
        "_lowest",
        "_owed",
        "_peak",
        "_peak_before",
        "_waiting",
        "_wanted_elsewhere",
        "ask_again_at",
        "held",
        "in_use",
        "kept_seconds",
        "model",
        "most",
        "timeout_seconds",
        "until",
    )

    def __init__(
        self,
        model: str,
        most: int,
        clock: Callable[[], float],
        lacking: Callable[["ModelSlots"], None],
    ) -> None:
        self.model = model
        self.most = most
        self.held = self.in_use = 0
        self.until = -math.inf
        self.timeout_seconds = self.kept_seconds = 0.0
        self.ask_again_at = 0.0
        self._clock = clock
        self._lacking = lacking
        self._waiting: deque[asyncio.Future[None]] = deque()
        # The lowest concurrency that any instance goes by.
        self._lowest = most
        # The most that were in use in this span of time, and in the one before.
        self._peak = self._peak_before = 0
        # How many are to be given up for others, and from when on.
        self._owed, self._due_at = 0, math.inf
        self._wanted_elsewhere = False

    @property
    def waiting(self) -> int:
        """How many calls wait for a slot."""
        return len(self._waiting)

    @property
    def is_sought(self) -> bool:
        """Whether others want what is idle here."""
        return self._wanted_elsewhere and self.held > self.in_use

    @property
    def is_lapsed(self) -> bool:
        """Whether no call may begin before the lease is renewed."""
        return self._clock() >= self.until or self.timeout_seconds > self.kept_seconds

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, in use or waited for."""
        return not (self.held or self.in_use or self._waiting)

    @property
    def wanted(self) -> int:
        """How many more are needed for all calls to be under way that may."""
        may = min(self.most, self._lowest, self.in_use + len(self._waiting))
        return max(0, may - self.held)

    async def slot(self, timeout_seconds: float) -> "HeldSlot":
        """Waits until one more call of at most so many seconds may be under way.

        Raises:
            Exception: What `refuse` was given.
        """
        self.timeout_seconds = max(self.timeout_seconds, timeout_seconds)
        if not self._waiting and self._take():
            return HeldSlot(self)
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._lacking(self)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:
                # It came just as the caller went.
                self.leave()
            with suppress(ValueError):
                self._waiting.remove(future)
            raise
        return HeldSlot(self)

    @property
    def seconds_left(self) -> float:
        """For how long calls may go on if the lease is never renewed."""
        return self.until + self.kept_seconds - self._clock()

    def leave(self) -> None:
        """Gives a slot back that was in use."""
        self.in_use -= 1
        if self._waiting:
            self.admit()
        if self._owed and self.held > self.in_use:
            self._lacking(self)

    def admit(self) -> None:
        """Lets those that wait go on, as far as there are slots, in their order."""
        while self._waiting:
            if self._waiting[0].done():
                # Its caller has gone.
                self._waiting.popleft()
            elif self._take():
                self._waiting.popleft().set_result(None)
            else:
                return

    def refuse(self, why: Callable[[], Exception]) -> None:
        """Turns away all that wait."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(why())

    def is_asked(self) -> None:
        """Takes note that others want slots: what is not in use is given up next time."""
        self._wanted_elsewhere = True

    def hold_for_ever(self) -> None:
        """Holds all slots there are, without a lease."""
        self.held = self._lowest = self.most
        self.until = self.kept_seconds = math.inf
        self.admit()

    def pass_time(self) -> None:
        """Begins another span of time; what was in use in none of the last two is given up."""
        self._peak_before, self._peak = self._peak, self.in_use

    def claim(self, *, lease_seconds: float, everything: bool = False) -> Claim:
        """Gives up what is not needed here, and returns what is left and wanted."""
        idle = 0 if everything or self._wanted_elsewhere else max(self._peak, self._peak_before)
        keep = self.held if self._waiting else max(self.in_use, idle)
        keep = min(keep, self.held, self._usable())
        self.held = max(self.in_use, keep)
        if not self.held and not self._waiting:
            self.timeout_seconds = 0.0
        return Claim(
            model=self.model,
            held=self.held,
            wanted=self.wanted,
            most=self.most,
            keeps_seconds=lease_seconds + self.timeout_seconds,
        )

    def put(self, grant: Grant, *, until: float, kept_seconds: float) -> None:
        """Takes what is held from now on, until the lease ends."""
        now = self._clock()
        self.held = grant.held
        self.until = until
        self.kept_seconds = kept_seconds
        self._lowest = grant.most
        self._wanted_elsewhere = grant.elsewhere > 0
        # Where all have their share, nobody owes anything; where there are fewer slots than
        # instances, they go round.
        above_share = self.held - grant.most // grant.claimants
        self._owed = max(0, min(grant.elsewhere - grant.free, above_share))
        turn = TURN_SECONDS
        if grant.free < 0:
            # The limit was lowered. If others do not give up theirs, all of it is ours to do.
            self._owed, turn = max(self._owed, min(-grant.free, self.held)), 0.0
        self._due_at = min(self._due_at, now + turn) if self._owed else math.inf
        self.admit()

    def _usable(self) -> int:
        due = self._owed if self._owed and self._clock() >= self._due_at else 0
        return min(self.held - due, self.most, self._lowest)

    def _take(self) -> bool:
        """Takes a slot, if there is one whose lease covers a call from now on."""
        if self.in_use >= self.held or self._clock() >= self.until:
            return False
        if self.in_use >= self._usable() or self.timeout_seconds > self.kept_seconds:
            return False
        self.in_use += 1
        self._peak = max(self._peak, self.in_use)
        return True


class HeldSlot:
    """See `generate.ports.Slot`."""

    __slots__ = ("_slots",)

    def __init__(self, slots: ModelSlots) -> None:
        self._slots = slots

    @property
    def seconds_left(self) -> float:
        """See `Slot`."""
        return self._slots.seconds_left

    def release(self) -> None:
        """See `Slot`."""
        self._slots.leave()
