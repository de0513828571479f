"""Predictors of need: from labelled prompts, a score for others. Higher means: the strong model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from router_svc.learning.records import Outcomes
from router_svc.learning.training import fit

Floats = NDArray[np.float64]

NEIGHBOURS = 100
SHRINKAGE = 20
SHARPNESS = 20


@dataclass(frozen=True)
class Labelled:
    """Prompts, with whether either model answered them correctly. Row by row."""

    sources: NDArray[Any]
    features: Floats
    meanings: Floats
    weak: Floats
    strong: Floats

    def __len__(self) -> int:
        return len(self.weak)

    def take(self, rows: Any) -> "Labelled":
        return Labelled(
            self.sources[rows],
            self.features[rows],
            self.meanings[rows],
            self.weak[rows],
            self.strong[rows],
        )


def by_length(known: Labelled, unknown: Labelled) -> Floats:
    """The longer, the needier: nothing is learnt."""
    del known
    return unknown.features[:, 0]


def by_neighbours(known: Labelled, unknown: Labelled) -> Floats:
    """Mean gain of the nearest prompts in meaning."""
    nearness = unknown.meanings @ known.meanings.T
    count = min(NEIGHBOURS, len(known) // 2)
    nearest = np.argpartition(-nearness, count - 1, axis=1)[:, :count]
    gains: Floats = (known.strong - known.weak)[nearest].mean(axis=1)
    return gains


def by_predictor(known: Labelled, unknown: Labelled) -> Floats:
    """The router's own predictor: what it expects of the strong model above the weak one.

    It knows nothing of sources.
    """
    count = len(known)
    ids = [UUID(int=number) for number in range(2 * count)]
    predictor = fit(
        Outcomes(
            decisions=ids,
            models=["weak"] * count + ["strong"] * count,
            scores=np.concatenate([known.weak, known.strong]),
            features=np.tile(known.features, (2, 1)),
            meanings=np.tile(known.meanings, (2, 1)),
        )
    )
    points = predictor.points(unknown.features, unknown.meanings)
    return predictor.heads["strong"].raw(points) - predictor.heads["weak"].raw(points)


def by_topic_and_length(known: Labelled, unknown: Labelled) -> Floats:
    """The gain that the meaning lets expect, and half as much for the length.

    Fixed weights: fitted ones were worse in cross-validation on the training files.
    """
    return _standard(topic(known, unknown)) + 0.5 * _standard(unknown.features[:, 0])


def by_topic_form_and_length(known: Labelled, unknown: Labelled) -> Floats:
    """The same with the gain that the form lets expect."""
    parts = ((1.0, topic), (0.5, form), (0.25, by_length))
    return sum(
        (weight * _standard(part(known, unknown)) for weight, part in parts),
        np.zeros(len(unknown)),
    )


def topic(known: Labelled, unknown: Labelled) -> Floats:
    """The gain that the meaning lets expect.

    Where the known prompts have sources, theirs are first taken together: the mean of a
    source, shrunk towards the mean of all as if 20 more prompts had that, is less noisy
    than a prompt's own gain. It is then averaged over the known prompts by nearness. The
    unknown prompts' sources are not looked at.
    """
    gains = known.strong - known.weak
    sources = np.unique(known.sources)
    if len(sources) == 1:
        return _ridge(known.meanings, unknown.meanings, gains, width=1.0, ridge=3.0)
    level = gains.mean()
    smooth = np.empty(len(known))
    for source in sources:
        rows = known.sources == source
        smooth[rows] = (gains[rows].sum() + SHRINKAGE * level) / (rows.sum() + SHRINKAGE)
    nearness = np.exp(SHARPNESS * (unknown.meanings @ known.meanings.T))
    averaged: Floats = (nearness @ smooth) / nearness.sum(axis=1)
    return averaged


def form(known: Labelled, unknown: Labelled) -> Floats:
    """The gain that the form lets expect."""
    mean, spread = known.features.mean(axis=0), known.features.std(axis=0) + 1e-6
    scaled = [np.clip((each.features - mean) / spread, -4, 4) for each in (known, unknown)]
    return _ridge(*scaled, known.strong - known.weak, width=0.01, ridge=30.0)


def _ridge(known: Floats, unknown: Floats, gains: Floats, *, width: float, ridge: float) -> Floats:
    """Kernel ridge regression with a Gaussian kernel of exp(-width * distance squared)."""

    def kernel(one: Floats) -> Floats:
        squares = (one**2).sum(axis=1)[:, np.newaxis] + (known**2).sum(axis=1)
        near: Floats = np.exp(-width * np.maximum(squares - 2 * one @ known.T, 0))
        return near

    level = gains.mean()
    pulls = np.linalg.solve(kernel(known) + ridge * np.eye(len(known)), gains - level)
    predicted: Floats = kernel(unknown) @ pulls + level
    return predicted


def _standard(values: Floats) -> Floats:
    standard: Floats = (values - values.mean()) / (values.std() + 1e-9)
    return standard


METHODS: dict[str, Callable[[Labelled, Labelled], Floats]] = {
    "length": by_length,
    "neighbours": by_neighbours,
    "topic, length": by_topic_and_length,
    "topic, form, length": by_topic_form_and_length,
    "predictor of the router": by_predictor,
}
