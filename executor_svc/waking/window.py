"""How many steps of a queue wait in RabbitMQ: enough to keep its workers busy, and no more.

What waits there goes in the order in which it was sent. So that a step which matters more
need not wait behind many others, only as much is sent as workers take up in a moment; the
rest stays in the record, from where the releaser takes it in fair order. How much that is
depends on how long steps take, and is found out: the window grows when its queue runs
empty while steps wait in the record, and shrinks when the queue does not.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from executor_svc.engine.ports import Wakeups
from executor_svc.waking.wire import bundle_size
from stepwire.errors import StepwireError

# Time between two looks at a queue into which this process publishes.
LOOK_SECONDS = 0.1
# In this time a queue that workers empty has been seen empty.
ADAPT_SECONDS = 0.5
FIRST_STEPS = 256
FEWEST_STEPS = 8
# Weight of the newest publication in the mean size of a message.
NEWEST_SHARE = 0.2


@dataclass(slots=True)
class _Queue:
    """What is known of a queue.

    Attributes:
        size: most steps that may wait in it.
        waiting: how many did when it was looked at last.
        published: steps published since then.
        per_message: mean number of steps in a message.
        wanted: whether more would have been published since then.
        behind: whether steps wait in the record.
        lowest: the fewest that waited since the window was last made smaller.
        adapted: when that was looked into.
        answered: whether RabbitMQ has answered at the last look.
        watch: looks again as long as there is something new.
    """

    size: float
    adapted: float
    waiting: float = 0.0
    published: int = 0
    per_message: float = 1.0
    wanted: bool = False
    behind: bool = False
    lowest: float = 0.0
    answered: bool = True
    watch: "asyncio.Task[None] | None" = None

    @property
    def room(self) -> float:
        """How many steps may be published."""
        return self.size - self.waiting - self.published if self.answered else 0.0


class Window:
    """Bounds what one process publishes; other processes' share is seen in the queue."""

    def __init__(
        self,
        wakeups: Wakeups,
        *,
        max_steps: int,
        max_bundle: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wakeups = wakeups
        self._max_steps = max_steps
        self._max_bundle = max_bundle
        self._clock = clock
        self._queues: dict[str, _Queue] = {}

    def allows(self, queue: str, steps: int) -> bool:
        """Say whether steps may be published at once; they then count as published."""
        state = self._state(queue)
        if state.behind or steps > state.room:
            state.wanted = True
            if not state.answered:
                self._watch(queue, state)
            return False
        self.published(queue, steps)
        return True

    def published(self, queue: str, steps: int) -> None:
        """Count steps that are being published."""
        state = self._state(queue)
        state.published += steps
        bundle = min(bundle_size(steps), self._max_bundle)
        state.per_message += (bundle - state.per_message) * NEWEST_SHARE
        self._watch(queue, state)

    def hold(self, queue: str, *, behind: bool) -> None:
        """Say whether steps of a queue wait in the record: nothing overtakes them then."""
        self._state(queue).behind = behind

    async def room(self, queue: str) -> int:
        """Look at a queue; return how many steps may be published now."""
        state = self._state(queue)
        await self._look(queue, state)
        return max(0, int(state.room))

    async def is_crowded(self, queue: str) -> bool:
        """Look at a queue; say whether more waits in it than was meant to.

        Of one that is not, the message of a step that was published long ago has been taken
        or lost.
        """
        state = self._state(queue)
        await self._look(queue, state)
        return state.answered and state.waiting > 2 * state.size

    def close(self) -> None:
        """Look at nothing any more."""
        for state in self._queues.values():
            if state.watch is not None:
                state.watch.cancel()

    def _state(self, queue: str) -> _Queue:
        state = self._queues.get(queue)
        if state is None:
            first = min(FIRST_STEPS, self._max_steps)
            state = self._queues[queue] = _Queue(size=first, adapted=self._clock())
        return state

    def _watch(self, queue: str, state: _Queue) -> None:
        if state.watch is None:
            state.watch = asyncio.create_task(self._look_on(queue, state), name=f"window:{queue}")

    async def _look_on(self, queue: str, state: _Queue) -> None:
        try:
            while state.published or not state.answered:
                await asyncio.sleep(LOOK_SECONDS)
                await self._look(queue, state)
        finally:
            state.watch = None

    async def _look(self, queue: str, state: _Queue) -> None:
        counted = state.published
        try:
            messages = await self._wakeups.backlog(queue)
        except StepwireError:
            state.answered = False
            return
        state.answered = True
        # What is published meanwhile may be among the messages; it is counted twice then.
        state.published -= min(counted, state.published)
        state.waiting = messages * state.per_message
        self._adapt(state)

    def _adapt(self, state: _Queue) -> None:
        now = self._clock()
        state.lowest = min(state.lowest, state.waiting)
        if not state.waiting and (state.wanted or state.behind):
            state.size = min(float(self._max_steps), state.size * 2)
        if now - state.adapted >= ADAPT_SECONDS:
            state.size = max(float(FEWEST_STEPS), state.size - state.lowest)
            state.lowest, state.adapted = state.waiting, now
        state.wanted = False
