"""What becomes of points once they are found: newer first, unlike each other, in groups. Pure."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from vector_svc.engine.records import Element, Matrix
from vector_svc.filters.records import Path, Scalar
from vector_svc.search.records import Found, Recency


def value_at(payload: Any, path: Path) -> Any:
    """Return what stands at a path; None if nothing does. Names go through objects only."""
    for key in path:
        if not isinstance(payload, dict):
            return None
        payload = payload.get(key)
    return payload


def newer_first(found: Sequence[Found], recency: Recency, *, now: datetime) -> list[Found]:
    """Add what newer points gain to their scores, and order by them.

    Args:
        found: The points, with their payloads where the time is in these.
        recency: How much is added.
        now: Age counts up to here; points of the future count as new.
    """

    def gain(each: Found) -> float:
        time = _time_of(each, recency.path)
        if time is None:
            return 0.0
        age = max((now - time) / recency.half_life, 0.0)
        return recency.weight * math.exp2(-age)

    raised = [replace(each, score=each.score + gain(each)) for each in found]
    return sorted(raised, key=lambda each: -each.score)


def unlike_each_other(
    found: Sequence[Found], vectors: Matrix, *, strength: float, limit: int
) -> list[Found]:
    """Choose points by maximal marginal relevance.

    Each next one has the most of (1 - strength) * score - strength * likeness: the score
    stretched to 0 to 1 over all candidates, so that metrics without bound can be weighed
    against likeness; the likeness the largest cosine to one chosen before, 0 at least.
    (Carbonell and Goldstein, 1998.)

    Args:
        found: The candidates, best first.
        vectors: Theirs, a row each.
        strength: From 0, for the best, to 1.
        limit: Most points to choose.
    """
    if not found:
        return []
    scores = np.array([each.score for each in found], dtype=np.float64)
    span = float(scores.max() - scores.min())
    worth = (1 - strength) * ((scores - scores.min()) / span if span else np.ones_like(scores))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths == 0, 1, lengths)
    likeness = np.zeros(len(found))
    chosen: list[int] = []
    free = np.ones(len(found), dtype=bool)
    for _ in range(min(limit, len(found))):
        best = int(np.where(free, worth - strength * likeness, -np.inf).argmax())
        chosen.append(best)
        free[best] = False
        likeness = np.maximum(likeness, unit @ unit[best])
    return [found[index] for index in chosen]


def in_groups(
    found: Sequence[Found], path: Path, *, limit: int, size: int
) -> list[tuple[Scalar, list[Found]]]:
    """Put points into groups by a value of their payloads: groups by their best point."""
    groups: dict[tuple[type, Scalar], list[Found]] = {}
    for each in found:
        value = value_at(orjson.loads(each.payload), path)
        if not isinstance(value, str | int | float):
            continue
        # True is 1 to Python, and 1.0 is 1 to everybody.
        key = (bool if isinstance(value, bool) else str if isinstance(value, str) else float, value)
        if key in groups or len(groups) < limit:
            group = groups.setdefault(key, [])
            if len(group) < size:
                group.append(each)
    return [(value, group) for (_, value), group in groups.items()]


def matrix_of(vectors: Sequence[bytes], element: Element) -> Matrix:
    """Turn vectors as points carry them into rows of floats; bits become -1 and 1."""
    if element is Element.BINARY:
        bits = np.unpackbits(
            np.frombuffer(b"".join(vectors), np.uint8).reshape(len(vectors), -1), axis=1
        )
        return bits.astype("<f4") * 2 - 1
    return np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)


def middle(positive: Matrix, negative: Matrix | None) -> Matrix:
    """Return the vector, as one row, near to some points and away from others.

    It is the mean of the positive ones, and as far again from the mean of the negative
    ones as that is from it.
    """
    mean: Matrix = positive.mean(axis=0, keepdims=True, dtype=np.float64)
    if negative is not None:
        mean = 2 * mean - negative.mean(axis=0, keepdims=True, dtype=np.float64)
    return mean.astype("<f4")


def _time_of(found: Found, path: Path) -> datetime | None:
    if not path:
        return found.changed_at
    text = value_at(orjson.loads(found.payload), path)
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else None
