"""How alike two requests are: in meaning, in form, and in length.

The sum of three kernels. A kernel ridge regression on it is a Gaussian process whose
function is a sum of three: one that changes smoothly with the meaning, one that changes
smoothly with the form, and one that is linear in the length.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from router_svc.learning.records import Floats

# Beyond so many standard deviations a feature says no more.
_FARTHEST: Final = 4.0
_FORM_WIDTH: Final = 0.01
LENGTH_FEATURE: Final = 0
"""Place of the text's length among the features."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and spread of the features, by which they are brought to a common size."""

    mean: Floats
    spread: Floats

    def of(self, features: Floats) -> Floats:
        """Returns `features`, [rows, features], in standard deviations."""
        scaled: Floats = (features - self.mean) / self.spread
        return np.clip(scaled, -_FARTHEST, _FARTHEST)


@dataclass(frozen=True, slots=True)
class Weights:
    """What each kernel counts for; 0 leaves it out."""

    meaning: float
    form: float
    length: float


@dataclass(frozen=True, slots=True)
class Points:
    """Requests as the kernels see them: scaled features and meanings, row by row."""

    features: Floats
    meanings: Floats

    def __len__(self) -> int:
        return len(self.features)


def scale_of(features: Floats) -> Scale:
    """Returns the scale of `features`; one that never changes has no effect."""
    spread = features.std(axis=0)
    return Scale(features.mean(axis=0), np.where(spread > 1e-9, spread, np.inf))  # noqa: PLR2004


def similarity(one: Points, other: Points, weights: Weights) -> Floats:
    """Returns the kernel's values, [len(one), len(other)]."""
    total: Floats = np.zeros((len(one), len(other)))
    if weights.meaning:
        # Of vectors of length 1, the squared distance is 2 - 2 cos.
        total += weights.meaning * np.exp(2 * (one.meanings @ other.meanings.T) - 2)
    if weights.form:
        total += weights.form * np.exp(-_FORM_WIDTH * _distances(one.features, other.features))
    if weights.length:
        mine, others = one.features[:, LENGTH_FEATURE], other.features[:, LENGTH_FEATURE]
        total += weights.length * np.outer(mine, others)
    return total


def _distances(one: Floats, other: Floats) -> Floats:
    """Returns the squared distances of rows."""
    squares = (one**2).sum(axis=1)[:, np.newaxis] + (other**2).sum(axis=1)
    distances: Floats = np.maximum(squares - 2 * one @ other.T, 0.0)
    return distances
