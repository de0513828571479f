"""The calls that wait for their turn, by priority.

Calls of one level take turns: the call whose turn it is gives its next item, and goes to
the end. Items are also kept by group, oldest first, so that a batch can be filled with
items, of any call, that go well with the first. What was cancelled, or whose deadline has
passed, is dropped when it is met.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Final

from opentelemetry.trace import Span

from stepwire.errors import Reason, StepwireError


class Item:
    """One text, or one request of tensors, that waits or is taken into a batch.

    Attributes:
        call: The call that it is part of.
        index: Its place in the call.
        payload: What is run.
        size: What it counts in the line: tokens, or rows.
        group: Items of one group may run together.
        taken: Whether a batch has it.
    """

    __slots__ = ("call", "group", "index", "payload", "size", "taken")

    def __init__(self, call: "Call", index: int, payload: Any, size: int, group: Hashable) -> None:
        self.call = call
        self.index = index
        self.payload = payload
        self.size = size
        self.group = group
        self.taken = False


class Call:
    """The items of one caller, and what became of them.

    Attributes:
        items: At least one.
        results: One per item, None until its batch has ended.
        future: Is done when all results are there, or one failed.
        level: From 0, which goes first.
        since: When it came, on the clock of the batcher.
        started: When its first batch began; None until then.
        deadline: When its result stops being wanted; None for never.
        span: The request's span; None if it is not recorded.
        largest_batch: Items of the largest batch that it was in.
        device: Where the last of its batches ran.
    """

    __slots__ = (
        "deadline",
        "device",
        "future",
        "items",
        "largest_batch",
        "left",
        "level",
        "results",
        "since",
        "span",
        "started",
        "turn",
    )

    def __init__(
        self,
        pieces: Sequence[tuple[Any, int, Hashable]],
        *,
        level: int,
        since: float,
        deadline: float | None,
        span: Span | None,
    ) -> None:
        self.items = [
            Item(self, index, payload, size, group)
            for index, (payload, size, group) in enumerate(pieces)
        ]
        self.results: list[Any] = [None] * len(self.items)
        self.left = len(self.items)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.level = level
        self.since = since
        self.started: float | None = None
        self.deadline = deadline
        self.span = span
        self.turn = 0
        self.largest_batch = 0
        self.device = ""

    def next_item(self) -> Item | None:
        """The first item that waits; None if all are taken."""
        while self.turn < len(self.items):
            item = self.items[self.turn]
            if not item.taken:
                return item
            self.turn += 1
        return None

    def expire(self, now: float) -> None:
        """Fails the call if its deadline has passed."""
        if self.deadline is not None and now >= self.deadline and not self.future.done():
            self.future.set_exception(
                StepwireError(
                    Reason.DEADLINE_EXCEEDED, "the deadline passed before the call's turn came"
                )
            )

    def fail(self, error: Exception) -> None:
        """Ends the call, because a batch with one of its items failed."""
        if not self.future.done():
            self.future.set_exception(error)

    def deliver(self, item: Item, result: Any) -> None:
        """Takes the result of one of its items."""
        if self.future.done():
            return
        self.results[item.index] = result
        self.left -= 1
        if self.left == 0:
            self.future.set_result(None)


class _Level:
    """What waits with one priority."""

    __slots__ = ("groups", "turns")

    def __init__(self) -> None:
        self.turns: deque[Call] = deque()
        self.groups: dict[Hashable, deque[Item]] = {}


class Line:
    """All that waits for one model.

    Attributes:
        size: Of the items that wait: tokens, or rows.
    """

    def __init__(self, levels: int, clock: Callable[[], float]) -> None:
        """Starts empty.

        Args:
            levels: How many priorities there are, at least 1.
            clock: The time in seconds, on which deadlines are given.
        """
        self._levels: Final = [_Level() for _ in range(levels)]
        self._clock = clock
        self._waiting = 0
        self.size = 0

    def __len__(self) -> int:
        """How many items wait."""
        return self._waiting

    def add(self, call: Call) -> None:
        """Puts a call at the end of its level."""
        level = self._levels[call.level]
        for item in call.items:
            level.groups.setdefault(item.group, deque()).append(item)
            self.size += item.size
        self._waiting += len(call.items)
        level.turns.append(call)

    def first(self) -> Item | None:
        """Takes the item whose turn it is; None if nothing waits."""
        now = self._clock()
        for level in self._levels:
            while level.turns:
                call = level.turns.popleft()
                call.expire(now)
                item = None if call.future.done() else call.next_item()
                if item is not None:
                    level.turns.append(call)
                    self._take(item)
                    _trim(level, item.group)
                    return item
        return None

    def oldest(self) -> float | None:
        """When the call came that has waited longest; None if nothing waits."""
        waiting = (
            call.since
            for level in self._levels
            for call in level.turns
            if not call.future.done() and call.next_item() is not None
        )
        return min(waiting, default=None)

    def groups(self) -> set[Hashable]:
        """The groups of the items that wait, and perhaps of some that no longer do."""
        return {group for level in self._levels for group in level.groups}

    def fill(self, batch: list[Item], group: Hashable, fits: Callable[[Item], bool]) -> None:
        """Takes items of a group into a batch, in order, for as long as they fit."""
        now = self._clock()
        for level in self._levels:
            queue = level.groups.get(group)
            if queue is None:
                continue
            for item in self._wanted(queue, now):
                if not fits(item):
                    return
                queue.popleft()
                batch.append(self._take(item))
            if not queue:
                del level.groups[group]

    def withdraw(self, call: Call) -> None:
        """Takes out what a call still has waiting."""
        for item in call.items:
            if not item.taken:
                self._take(item)
                _trim(self._levels[call.level], item.group)
        if self._waiting == 0:
            # Only taken items are left: let go of them and their calls.
            for level in self._levels:
                level.turns.clear()
                level.groups.clear()

    def _take(self, item: Item) -> Item:
        item.taken = True
        self.size -= item.size
        self._waiting -= 1
        return item

    @staticmethod
    def _wanted(queue: deque[Item], now: float) -> Iterator[Item]:
        """Gives the first item that is wanted, again and again; the others are dropped."""
        while queue:
            item = queue[0]
            item.call.expire(now)
            if item.taken or item.call.future.done():
                queue.popleft()
            else:
                yield item


def _trim(level: _Level, group: Hashable) -> None:
    """Lets go of the taken items at the beginning of a group."""
    queue = level.groups.get(group)
    while queue and queue[0].taken:
        queue.popleft()
    if queue is not None and not queue:
        del level.groups[group]
