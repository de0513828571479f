"""PassingStore on Redis or Valkey; needs the extra `redis`."""

import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from router_svc.cache.codec import decode_marked, encode_marked
from router_svc.cache.records import Marked

PREFIX: Final = "stepwire:answer:"
"""Of the keys; what follows is the answer's key in hexadecimal."""
PATIENCE_SECONDS: Final = 1.0
"""Longest wait for a connection, or for a reply."""
CLOCK_SECONDS: Final = 10.0
"""How often the clock of Redis is compared with one's own."""
# One looks up, one writes; a broken one may be on its way out.
_CONNECTIONS: Final = 4
_MS: Final = 1_000


class RedisAnswers:
    """See `PassingStore`. Times there are of its own clock: those of instances may differ."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._ahead = 0.0
        self._ahead_until = 0.0

    async def find(self, keys: Sequence[bytes]) -> Sequence[Marked]:
        """See `PassingStore`."""
        with _failures_told():
            ahead = await self._clock_ahead()
            read = await self._client.mget([_name(key) for key in keys])
        found = [
            decode_marked(data, key=key, clock_ahead_seconds=ahead)
            for key, data in zip(keys, read, strict=True)
            if isinstance(data, bytes)
        ]
        return [marked for marked in found if marked is not None]

    async def keep(self, answers: Sequence[Marked], *, ttl_seconds: float) -> None:
        """See `PassingStore`."""
        with _failures_told():
            ahead = await self._clock_ahead()
            async with self._client.pipeline(transaction=False) as pipe:
                for marked in answers:
                    left = ttl_seconds - (time.time() - marked.kept.kept_at)
                    if left > 0:
                        data = encode_marked(marked, clock_ahead_seconds=ahead)
                        pipe.set(_name(marked.kept.key), data, px=math.ceil(_MS * left))
                # What it would raise by itself repeats the beginning of a value.
                for reply in await pipe.execute(raise_on_error=False):
                    if isinstance(reply, RedisError):
                        raise reply

    async def _clock_ahead(self) -> float:
        """Returns how far the clock of Redis is ahead of one's own, in seconds."""
        if time.monotonic() >= self._ahead_until:
            seconds, microseconds = await self._client.time()
            self._ahead = seconds + microseconds / 1e6 - time.time()
            self._ahead_until = time.monotonic() + CLOCK_SECONDS
        return self._ahead


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[RedisAnswers]:
    """Opens Redis, without calling it; closes it at the end.

    Raises:
        ValueError: The URL is not one of Redis.
    """
    client = Redis.from_url(
        url,
        client_name="stepwire-router",
        max_connections=_CONNECTIONS,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        # The caller goes on without rather than wait for a second try.
        retry=Retry(NoBackoff(), 0),
    )
    async with client:
        yield RedisAnswers(client)


def _name(key: bytes) -> str:
    return PREFIX + key.hex()


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise ConnectionError(str(error)) from error
