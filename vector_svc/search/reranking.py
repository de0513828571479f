"""A second ranking of points, by their texts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import orjson

from stepwire.errors import field_invalid
from vector_svc.embedding.ports import Reranker
from vector_svc.engine.records import Collection
from vector_svc.filters.records import Path
from vector_svc.search.ranking import value_at
from vector_svc.search.records import Found, Search

# What the model service takes in one call.
MAX_RERANKED: Final = 256
MAX_CHARACTERS: Final = 1_000_000
# So many times as many points as wanted are ranked again.
CANDIDATES: Final = 4
# The least cosine there is.
WITHOUT_TEXT: Final = -1.0


class Reranking:
    """Ranks points again.

    Args:
        reranker: Compares texts.
    """

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker

    async def rank(
        self, collection: Collection, search: Search, found: Sequence[Found]
    ) -> list[Found]:
        """Return the best points, ordered by their texts.

        Args:
            collection: Whose points.
            search: What was searched for, with `rerank`.
            found: The points, best first, with their payloads.

        Raises:
            StepwireError: FIELD_INVALID, or what the model service says.
        """
        asked = search.rerank
        assert asked is not None
        path = asked.path or _text_field(collection, search)
        candidates = found[: candidates_of(search)]
        texts = [_text_at(each, path) for each in candidates]
        having = [number for number, text in enumerate(texts) if text]
        scores = dict.fromkeys(range(len(candidates)), WITHOUT_TEXT)
        if having:
            share = MAX_CHARACTERS // len(having)
            likeness = await self._reranker.rerank(
                asked.model or collection.config.model,
                asked.query,
                [texts[number][:share] for number in having],
            )
            scores |= dict(zip(having, likeness, strict=True))
        ranked = [replace(each, score=scores[number]) for number, each in enumerate(candidates)]
        return sorted(ranked, key=lambda each: -each.score)


def candidates_of(search: Search) -> int:
    """Return the number of points that are ranked again, for a search with `rerank`."""
    assert search.rerank is not None
    wanted = search.offset + search.limit
    return min(max(search.rerank.candidates or CANDIDATES * wanted, wanted), MAX_RERANKED)


def _text_field(collection: Collection, search: Search) -> Path:
    text = collection.config.text
    if text is None:
        wrong = "is required: the collection has no text field"
        raise field_invalid(f"{search.path}rerank.path", wrong)
    return (text.field,)


def _text_at(found: Found, path: Path) -> str:
    text = value_at(orjson.loads(found.payload or b"{}"), path)
    return text if isinstance(text, str) else ""
