"""Answers from a model's cache, measured."""

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from model_svc.metrics import ModelMetrics
from model_svc.running.cache import ResponseCache

V = TypeVar("V")


class Answers(Generic[V]):
    """A model's answers, kept or made."""

    def __init__(self, cache: ResponseCache[V], metrics: ModelMetrics) -> None:
        self._cache = cache
        self._metrics = metrics

    async def answer(self, key: bytes, make: Callable[[], Awaitable[V]]) -> tuple[V, bool]:
        """Returns the answer to what has this digest, and whether another call made it.

        Raises:
            StepwireError: What `make` raised.
        """
        began = time.monotonic()
        found = self._cache.get(key)
        if found is None:
            self._metrics.cache_missed(time.monotonic() - began)
            found, joined = await self._cache.fly(key, make)
            if not joined:
                return found, False
        self._metrics.cache_hit(time.monotonic() - began)
        return found, True
