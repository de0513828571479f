"""Bounds what meanings cost a decision: in time, in number, and for texts seen before."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from router_svc.decide.ports import Vector

# A model reads no more of a text than this, by far.
READ_CHARACTERS = 2_000
REMEMBERED = 2_048
# More calls at once would only wait for one another.
AT_ONCE = 16
# After a call that failed or came too late, decisions do without for so long: whoever is
# away or overloaded is not asked by each of them.
REST_SECONDS = 0.5


class BoundedEmbedder:
    """An `Embedder` that gives up rather than wait.

    Args:
        call: Turns a text into a vector; raises ConnectionError when it cannot.
        deadline_seconds: Longest wait for it.
    """

    def __init__(
        self, call: Callable[[str], Awaitable[Vector]], *, deadline_seconds: float
    ) -> None:
        self._call = call
        self._deadline_seconds = deadline_seconds
        self._remembered: OrderedDict[str, Vector] = OrderedDict()
        self._under_way = 0
        # On the event loop's clock.
        self._rests_until = 0.0

    async def embed(self, text: str) -> Vector | None:
        """See `Embedder`."""
        read = text[:READ_CHARACTERS]
        known = self._remembered.get(read)
        if known is not None:
            self._remembered.move_to_end(read)
            return known
        loop = asyncio.get_running_loop()
        if self._under_way >= AT_ONCE or loop.time() < self._rests_until:
            return None
        self._under_way += 1
        try:
            async with asyncio.timeout(self._deadline_seconds):
                found = await self._call(read)
        except (TimeoutError, ConnectionError):
            self._rests_until = loop.time() + REST_SECONDS
            return None
        finally:
            self._under_way -= 1
        self._remembered[read] = found
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return found
