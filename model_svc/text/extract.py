"""Picks the sentences that answer a question, or say what documents are about.

Pure over an `Embedder`: the same documents and question give the same quotes.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from model_svc.ports import NOT_RUN, Embedder, Ran
from model_svc.tensors import Vectors
from model_svc.text.candidates import Candidate, Document, candidates_of

# What is added to a sentence's cosine for the choice. Small beside the differences that
# matter (a paraphrase has about 0.7, an unrelated sentence about 0): they decide between
# sentences of like meaning.
_RANK_BONUS: Final = 0.05  # for the first document; a half, a third, ... for the next
_QUESTION_PENALTY: Final = 0.1  # a question is seldom the answer to one
_LEAD_IN_PENALTY: Final = 0.03  # "...as follows:" without what follows

# How much of its likeness to the nearest quote already chosen a sentence loses.
_REDUNDANCY: Final = 0.2
_SAME: Final = 0.95  # cosine from which two sentences say the same


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence that was chosen.

    Attributes:
        document_id: Where it stands.
        text: The sentence, its white space folded.
        score: Cosine to the question, or to the mean of all sentences.
        place: Its document's rank, and its own place among the document's sentences.
    """

    document_id: str
    text: str
    score: float
    place: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Extract:
    """The quotes, most relevant first, the tokens read for them, and how it was done."""

    quotes: list[Quote]
    tokens: int
    ran: Ran = NOT_RUN


class Extractor:
    """The extractive small text model."""

    def __init__(self, *, max_sentences: int) -> None:
        """Makes an extractor.

        Args:
            max_sentences: Sentences that are compared per request. Of more, those are
                kept that share the most telling words with the question.
        """
        self._max_sentences = max_sentences

    async def extract(
        self,
        embedder: Embedder,
        *,
        question: str,
        documents: Sequence[Document],
        quotes: int,
        min_score: float = -1.0,
    ) -> Extract:
        """Quotes the documents.

        Args:
            embedder: Compares sentences by meaning.
            question: What to answer; blank for a summary.
            documents: The most relevant first.
            quotes: How many sentences to return; fewer if the documents do not have them.
            min_score: Cosine that a sentence must have.

        Raises:
            StepwireError: What the embedder raises.
        """
        question = question.strip()
        candidates = await asyncio.to_thread(
            candidates_of, documents, question=question, limit=self._max_sentences
        )
        if not candidates:
            return Extract([], 0)
        texts = [candidate.text for candidate in candidates]
        embedded = await embedder.embed([question, *texts] if question else texts)
        if question:
            target, vectors = embedded.vectors[0], embedded.vectors[1:]
        else:
            target, vectors = _direction(embedded.vectors.mean(axis=0)), embedded.vectors
        cosines = vectors @ target
        scores = np.where(cosines >= min_score, cosines + _priors(candidates), -np.inf)
        chosen = _choose(scores, vectors, quotes)
        return Extract(
            [
                Quote(
                    candidates[index].document_id,
                    candidates[index].text,
                    float(cosines[index]),
                    (candidates[index].rank, candidates[index].position),
                )
                for index in chosen
            ],
            embedded.tokens,
            embedded.ran,
        )


def _priors(candidates: Sequence[Candidate]) -> Vectors:
    return np.array(
        [
            _RANK_BONUS / (1 + candidate.rank)
            - _QUESTION_PENALTY * candidate.text.endswith("?")
            - _LEAD_IN_PENALTY * candidate.text.endswith(":")
            for candidate in candidates
        ],
        dtype=np.float32,
    )


def _choose(scores: Vectors, vectors: Vectors, count: int) -> list[int]:
    """Returns the indices of the best sentences that do not repeat each other."""
    chosen: list[int] = []
    nearest = np.zeros_like(scores)
    left = np.isfinite(scores)
    while len(chosen) < count and left.any():
        best = int(np.argmax(np.where(left, scores - _REDUNDANCY * nearest, -np.inf)))
        chosen.append(best)
        likeness = vectors @ vectors[best]
        nearest = np.maximum(nearest, likeness)
        left &= likeness < _SAME
        left[best] = False
    return chosen


def _direction(vector: Vectors) -> Vectors:
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector
