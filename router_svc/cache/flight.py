"""One answer in the making, for all who ask for the same."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from router_svc.generate.records import Answer, Piece
from stepwire.flights import Flight


class AnswerFlight(Flight[Answer]):
    """Gathers the pieces of an answer; whoever follows it gets all of them, from the first.

    Args:
        work: Makes the answer, and adds its pieces as they come.
    """

    def __init__(self, work: Callable[["AnswerFlight"], Coroutine[Any, Any, Answer]]) -> None:
        self._pieces: list[Piece] = []
        self._news = asyncio.Event()
        super().__init__(work(self), name="shared answer")
        self.task.add_done_callback(lambda _: self._tell())

    def add(self, piece: Piece) -> None:
        """Adds a piece before the end."""
        self._pieces.append(piece)
        self._tell()

    async def follow(self) -> AsyncGenerator[Piece]:
        """Yields the pieces, those of the past at once, without the end.

        Raises:
            StepwireError: The answer failed.
        """
        sent = 0
        while True:
            while sent < len(self._pieces):
                yield self._pieces[sent]
                sent += 1
            if self.task.done():
                self.task.result()
                return
            await self._news.wait()

    def _tell(self) -> None:
        # All who wait now are woken; who comes later waits for the next.
        self._news.set()
        self._news.clear()
