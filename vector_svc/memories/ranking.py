"""What is recalled first: what is near in meaning, recent, important. Pure.

The sum of the three is that of Park et al., Generative Agents (2023), with weights of the
caller's and an age at which recency is a half.
"""

import math
from collections.abc import Iterable
from datetime import datetime

from vector_svc.memories.payloads import memory_of
from vector_svc.memories.records import Memory, Recalled, Weights
from vector_svc.search.records import Found


def ranked(
    found: Iterable[Found], weights: Weights, *, now: datetime, limit: int
) -> list[Recalled]:
    """Return the memories that count most, best first.

    Args:
        found: Points of memories, with their relevance as scores.
        weights: What counts besides.
        now: Age counts up to here; what is to come counts as new.
        limit: Most memories.
    """
    recalled = []
    for each in found:
        memory = memory_of(each)
        recency = recency_of(memory, weights, now=now)
        gain = weights.recency * recency + weights.importance * memory.importance
        recalled.append(Recalled(memory, each.score + gain, each.score, recency))
    return sorted(recalled, key=lambda each: -each.score)[:limit]


def recency_of(memory: Memory, weights: Weights, *, now: datetime) -> float:
    """Return 1 for a memory of now, a half at the half-life, 0 for one without a time."""
    if memory.time is None:
        return 0.0
    return math.exp2(-max((now - memory.time) / weights.half_life, 0.0))
