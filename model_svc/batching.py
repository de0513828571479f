"""Token-budget batching: texts of many calls share a run of the model.

There is no timer. A lone text runs at once; under load, batches are made of what waits
while earlier ones run. Calls take turns: the call whose turn it is gives the first text of
a batch, and the batch is filled with the waiting texts, of any call, that are nearest to
it in length. So little is padded, a large call delays a small one by about one batch, and
none starves.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import numpy as np

from model_svc.ports import BatchObserver, Encode
from model_svc.tensors import Tokens, Vectors
from stepwire.errors import Reason, StepwireError

_RETRY_AFTER: Final = timedelta(seconds=1)

# A text joins a batch only if its length is within this share of the first text's, and
# this many tokens: filling up with very different lengths costs more than a run of its own.
_LENGTH_SHARE: Final = 0.15
_LENGTH_TOKENS: Final = 3


class _Call:
    """The texts of one caller."""

    __slots__ = ("deadline", "future", "left", "since", "texts", "turn", "vectors")

    def __init__(
        self,
        rows: Sequence[Tokens],
        *,
        future: "asyncio.Future[Vectors]",
        since: float,
        deadline: float | None,
    ) -> None:
        self.texts = [_Text(self, index, row) for index, row in enumerate(rows)]
        self.future = future
        self.since = since
        self.deadline = deadline
        self.left = len(rows)
        self.turn = 0
        self.vectors: Vectors | None = None

    def next_text(self) -> "_Text | None":
        """The first text that waits; None if all are taken."""
        while self.turn < len(self.texts):
            text = self.texts[self.turn]
            if not text.taken:
                return text
            self.turn += 1
        return None


class _Text:
    """One text that waits, or is taken into a batch."""

    __slots__ = ("call", "index", "row", "taken")

    def __init__(self, call: _Call, index: int, row: Tokens) -> None:
        self.call = call
        self.index = index
        self.row = row
        self.taken = False


class TokenBatcher:
    """Runs token rows of concurrent callers in batches.

    To be used from one event loop.
    """

    def __init__(
        self,
        encode: Encode,
        *,
        max_batch_tokens: int,
        max_waiting_tokens: int,
        concurrent_batches: int,
        clock: Callable[[], float],
        observer: BatchObserver,
    ) -> None:
        """Starts with an empty queue.

        Args:
            encode: Runs one batch.
            max_batch_tokens: Largest number of texts times longest text in a batch; a
                single text may be longer.
            max_waiting_tokens: Tokens that may wait; a call that would exceed it is refused.
            concurrent_batches: How many batches run at the same time.
            clock: The time in seconds, on the clock of the deadlines.
            observer: Is told about every batch.
        """
        self._encode = encode
        self._max_batch_tokens = max_batch_tokens
        self._max_waiting_tokens = max_waiting_tokens
        self._concurrent_batches = concurrent_batches
        self._clock = clock
        self._observer = observer
        self._turns: deque[_Call] = deque()
        # Waiting texts by their length, oldest first; taken ones are dropped when met.
        self._by_length: dict[int, deque[_Text]] = {}
        self._waiting_tokens = 0
        self._running: set[asyncio.Task[None]] = set()

    @property
    def waiting_tokens(self) -> int:
        """Tokens of the texts that wait for a batch."""
        return self._waiting_tokens

    async def run(self, rows: Sequence[Tokens], *, deadline: float | None = None) -> Vectors:
        """Returns the vectors of the rows, [rows, dimension], in their order.

        A caller that is cancelled takes its waiting texts with it.

        Args:
            rows: At least one, each with at least one token.
            deadline: When the result stops being wanted; None for never.

        Raises:
            StepwireError: OVERLOADED, when too much waits already; DEADLINE_EXCEEDED, when
                the deadline passed before the last text's turn.
            Exception: What `encode` raised for a batch with one of these rows.
        """
        tokens = sum(len(row) for row in rows)
        if self._waiting_tokens + tokens > self._max_waiting_tokens:
            raise StepwireError(
                Reason.OVERLOADED,
                f"at most {self._max_waiting_tokens} tokens may wait",
                metadata={"limit": str(self._max_waiting_tokens)},
                retry_after=_RETRY_AFTER,
            )
        call = _Call(
            rows,
            future=asyncio.get_running_loop().create_future(),
            since=self._clock(),
            deadline=deadline,
        )
        for text in call.texts:
            self._by_length.setdefault(len(text.row), deque()).append(text)
        self._waiting_tokens += tokens
        self._turns.append(call)
        self._fill_runners()
        try:
            return await call.future
        finally:
            self._withdraw(call)

    async def close(self) -> None:
        """Cancels what waits, and waits for the batches that run."""
        for call in self._turns:
            call.future.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _fill_runners(self) -> None:
        while len(self._running) < self._concurrent_batches:
            batch = self._next_batch()
            if not batch:
                return
            task = asyncio.create_task(self._run_batch(batch), name="model batch")
            self._running.add(task)
            task.add_done_callback(self._runner_free)

    def _runner_free(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._fill_runners()

    def _next_batch(self) -> list[_Text]:
        first = self._next_turn()
        if first is None:
            return []
        batch = [self._take(first)]
        target = longest = len(first.row)
        reach = max(_LENGTH_TOKENS, target * _LENGTH_SHARE)
        near = (length for length in self._by_length if abs(length - target) <= reach)
        for length in sorted(near, key=lambda length: abs(length - target)):
            width = max(longest, length)
            room = self._max_batch_tokens // width - len(batch)
            if found := self._take_of_length(length, max(0, room)):
                batch.extend(found)
                longest = width
        return batch

    def _next_turn(self) -> _Text | None:
        """The first text of the call whose turn it is; the call then goes to the end."""
        while self._turns:
            call = self._turns.popleft()
            self._expire(call)
            text = None if call.future.done() else call.next_text()
            if text is not None:
                self._turns.append(call)
                return text
        return None

    def _take_of_length(self, length: int, count: int) -> list[_Text]:
        queue, found = self._by_length[length], list[_Text]()
        while queue:
            text = queue[0]
            self._expire(text.call)
            wanted = not text.taken and not text.call.future.done()
            if wanted and len(found) == count:
                break
            queue.popleft()
            if wanted:
                found.append(self._take(text))
        if not queue:
            del self._by_length[length]
        return found

    def _take(self, text: _Text) -> _Text:
        text.taken = True
        self._waiting_tokens -= len(text.row)
        return text

    def _expire(self, call: _Call) -> None:
        if call.deadline is None or call.future.done() or self._clock() < call.deadline:
            return
        call.future.set_exception(
            StepwireError(
                Reason.DEADLINE_EXCEEDED, "the deadline passed before the text's turn came"
            )
        )

    def _withdraw(self, call: _Call) -> None:
        for text in call.texts:
            if not text.taken:
                self._take(text)
        if self._waiting_tokens == 0:
            # Only taken texts are left: let go of them and their calls.
            self._turns.clear()
            self._by_length.clear()

    async def _run_batch(self, batch: Sequence[_Text]) -> None:
        started = self._clock()
        rows = [text.row for text in batch]
        try:
            vectors = await self._encode(rows)
        except Exception as error:  # noqa: BLE001 - raised to the batch's callers
            for text in batch:
                if not text.call.future.done():
                    text.call.future.set_exception(error)
            return
        self._observer.batch_ran(
            texts=len(rows),
            tokens=sum(len(row) for row in rows),
            padded_tokens=len(rows) * max(len(row) for row in rows),
            wait_seconds=started - min(text.call.since for text in batch),
            seconds=self._clock() - started,
        )
        for text, vector in zip(batch, vectors, strict=True):
            _deliver(text, vector)


def _deliver(text: _Text, vector: Vectors) -> None:
    call = text.call
    if call.future.done():
        return
    if call.vectors is None:
        call.vectors = np.empty((len(call.texts), len(vector)), dtype=np.float32)
    call.vectors[text.index] = vector
    call.left -= 1
    if call.left == 0:
        call.future.set_result(call.vectors)
