"""Finds answers to questions of the same meaning, and refuses those that differ in what counts."""

import asyncio
from collections.abc import Sequence
from typing import Final

from router_svc.cache.answers import Answers
from router_svc.cache.guard import difference
from router_svc.cache.metrics import CacheMetrics
from router_svc.cache.part import Part
from router_svc.cache.ports import Neighbours
from router_svc.cache.records import Ask, Embedded, Found, Near
from router_svc.generate.records import HitKind

CANDIDATES: Final = 5
"""Near questions that are looked at: the nearest may be refused, or its answer be gone."""


class SameMeaning:
    """Answers to questions of the same meaning.

    Args:
        neighbours: Finds the questions.
        answers: Has their answers.
        part: Whether questions can be found.
        metrics: Counts refusals and failures.
        least_similarity: Cosine from which on two questions may have the same meaning.
        deadline_seconds: Longest wait.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        answers: Answers,
        part: Part,
        metrics: CacheMetrics,
        *,
        least_similarity: float,
        deadline_seconds: float,
    ) -> None:
        self._neighbours = neighbours
        self._answers = answers
        self._part = part
        self._metrics = metrics
        self._least = least_similarity
        self._deadline_seconds = deadline_seconds

    async def find(self, ask: Ask) -> tuple[Found | None, Embedded | None]:
        """Returns an answer that may be given, and what the question means.

        Either may be None; neither is an error, and a service that is away is counted.
        """
        if self._part.rests:
            self._metrics.failed(ask.tenant_id, self._part.name)
            return None, None
        meaning: Embedded | None = None
        try:
            async with asyncio.timeout(self._deadline_seconds):
                meaning = await self._neighbours.embed(ask.question)
                if meaning is None:
                    return None, None
                near = await self._neighbours.nearest(
                    meaning, partition=ask.partition, least=self._least, limit=CANDIDATES
                )
        except (ConnectionError, TimeoutError) as error:
            self._part.failed(str(error))
            self._metrics.failed(ask.tenant_id, self._part.name)
            return None, meaning
        self._part.answered()
        return await self._first(ask, near), meaning

    async def _first(self, ask: Ask, near: Sequence[Near]) -> Found | None:
        # Its own question again: that answer is too old for this request.
        others = [each for each in near if each.key != ask.key]
        if not others:
            return None
        found = await self._answers.find_all([each.key for each in others], ask)
        for each in others:
            kept = found.get(each.key)
            # The filter has seen to the partition; an answer is looked at all the same.
            if kept is None or kept.partition != ask.partition:
                continue
            told = difference(ask.question, kept.question)
            if not told:
                return Found(kept, HitKind.SEMANTIC, each.similarity)
            self._metrics.refused(ask.tenant_id, told)
        return None
