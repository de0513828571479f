"""The sentences of a request's documents that are worth comparing. Pure."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from model_svc.text.sentences import sentences_of

_WORD: Final = re.compile(r"\w{3,}")


@dataclass(frozen=True, slots=True)
class Document:
    """A text to quote from."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be quoted.

    Attributes:
        document_id: Where it stands.
        rank: That document's place in the request, from 0.
        position: Its place among the document's sentences, from 0.
        text: The sentence.
    """

    document_id: str
    rank: int
    position: int
    text: str


def candidates_of(documents: Sequence[Document], *, question: str, limit: int) -> list[Candidate]:
    """Returns at most `limit` different sentences of the documents, in their order.

    Of more, those are kept that share the rarest words with the question; among equals,
    the first sentences of each document.
    """
    found: dict[str, Candidate] = {}
    for rank, document in enumerate(documents):
        for position, text in enumerate(sentences_of(document.text)):
            found.setdefault(text, Candidate(document.id, rank, position, text))
    candidates = list(found.values())
    if len(candidates) <= limit:
        return candidates
    overlap = _overlaps(candidates, question)
    order = sorted(
        range(len(candidates)),
        key=lambda index: (-overlap[index], candidates[index].position, candidates[index].rank),
    )
    return [candidates[index] for index in sorted(order[:limit])]


def _overlaps(candidates: Sequence[Candidate], question: str) -> list[float]:
    """For each candidate, the information of the question's words that it contains."""
    wanted = _words(question)
    shared = [wanted & _words(candidate.text) for candidate in candidates]
    frequency = Counter(word for words in shared for word in words)
    return [
        sum(math.log(1 + len(candidates) / frequency[word]) for word in words) for words in shared
    ]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
