"""Verbs that compare texts by the cosines of their vectors.

Pure over an `Embedder`: the same texts give the same answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

import numpy as np

from model_svc.ports import Embedder, EmbedOptions, Ran, Role, TextModel
from model_svc.running.statistics import Timings
from model_svc.tensors import Vectors
from model_svc.text.candidates import Document
from model_svc.text.passages import passages_of

T = TypeVar("T")

# A longer passage has more in it than the sentence that answers, and is found less well.
_PASSAGE_TOKENS: Final = 64

# So many have at most a quarter of the tokens that may wait: documents of any length leave
# room in the line for others.
_PASSAGES_AT_ONCE: Final = 512


@dataclass(frozen=True, slots=True)
class Label:
    """One of the labels to choose from; `texts` stand for it, or its name if there are none."""

    name: str
    texts: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How well a label fits a text.

    Attributes:
        label: Its name.
        score: The cosine of the two.
        share: Its part in the softmax of all cosines.
    """

    label: str
    score: float
    share: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document in its new place: its index in the request, and its best passage's cosine."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Compared(Generic[T]):
    """A verb's result, and what it took."""

    result: T
    tokens: int
    ran: Ran


async def score(
    embedder: Embedder, text: str, candidates: Sequence[str], *, priority: int
) -> Compared[Sequence[float]]:
    """Returns the cosine of each candidate to the text."""
    options = EmbedOptions(normalize=True, priority=priority)
    embedded = await embedder.embed([text, *candidates], options)
    cosines = embedded.vectors[1:] @ embedded.vectors[0]
    return Compared(cosines.tolist(), embedded.tokens, embedded.ran)


async def classify(
    embedder: Embedder,
    texts: Sequence[str],
    labels: Sequence[Label],
    *,
    temperature: float,
    top: int,
    priority: int,
) -> Compared[Sequence[Sequence[LabelScore]]]:
    """Returns, for each text, its best labels, the best first.

    Args:
        embedder: Compares by meaning.
        texts: What to classify.
        labels: What to choose from.
        temperature: What cosines are divided by before the softmax.
        top: How many labels are wanted; 0 for all.
        priority: See `EmbedOptions`.
    """
    meanings = [list(label.texts) or [label.name] for label in labels]
    options = EmbedOptions(normalize=True, priority=priority)
    flat = [text for meaning in meanings for text in meaning]
    embedded = await embedder.embed([*texts, *flat], options)
    vectors, described = embedded.vectors[: len(texts)], embedded.vectors[len(texts) :]
    ends = np.cumsum([len(meaning) for meaning in meanings])[:-1]
    means = np.stack([part.mean(axis=0) for part in np.split(described, ends)])
    cosines = vectors @ _directions(means).T
    shares = _softmax(cosines / temperature)
    result = [
        _best(labels, row, share, top or len(labels))
        for row, share in zip(cosines, shares, strict=True)
    ]
    return Compared(result, embedded.tokens, embedded.ran)


async def rerank(
    model: TextModel, query: str, documents: Sequence[Document], *, top: int, priority: int
) -> Compared[Sequence[Ranked]]:
    """Returns the documents by their best passage, the best first.

    Query and documents get the prefixes that the model was trained with.
    """
    passages = await asyncio.to_thread(_passages, documents, min(model.max_tokens, _PASSAGE_TOKENS))
    options = EmbedOptions(normalize=True, priority=priority)
    asked = await model.embed([query], replace(options, role=Role.QUERY))
    tokens, ran = asked.tokens, asked.ran
    best = np.full(len(documents), -np.inf, dtype=np.float32)
    for start in range(0, len(passages), _PASSAGES_AT_ONCE):
        part = passages[start : start + _PASSAGES_AT_ONCE]
        found = await model.embed(
            [passage for _, passage in part], replace(options, role=Role.DOCUMENT)
        )
        np.maximum.at(best, [index for index, _ in part], found.vectors @ asked.vectors[0])
        tokens, ran = tokens + found.tokens, _sum(ran, found.ran)
    order = np.argsort(-best, kind="stable")[: top or len(documents)]
    ranked = [Ranked(int(index), float(best[index])) for index in order]
    return Compared(ranked, tokens, ran)


def _passages(documents: Sequence[Document], max_tokens: int) -> list[tuple[int, str]]:
    """The passages of all documents, each with the index of its own."""
    return [
        (index, passage)
        for index, document in enumerate(documents)
        for passage in passages_of(document.text, max_tokens)
    ]


def _best(
    labels: Sequence[Label], cosines: Vectors, shares: Vectors, count: int
) -> list[LabelScore]:
    order = np.argsort(-cosines, kind="stable")[:count]
    return [
        LabelScore(labels[index].name, float(cosines[index]), float(shares[index]))
        for index in order
    ]


def _softmax(values: Vectors) -> Vectors:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    shares: Vectors = raised / raised.sum(axis=1, keepdims=True)
    return shares


def _directions(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions: Vectors = vectors.copy()
    np.divide(vectors, lengths, out=directions, where=lengths > 0)
    return directions


def _sum(first: Ran, second: Ran) -> Ran:
    left, right = first.timings, second.timings
    timings = Timings(
        left.queue + right.queue, left.tokenize + right.tokenize, left.compute + right.compute
    )
    batch = max(first.batch_items, second.batch_items)
    return Ran(timings, batch, second.device, first.cached and second.cached)
