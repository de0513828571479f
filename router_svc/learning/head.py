"""Predicts how good one model's answers are: kernel ridge regression, calibrated."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from router_svc.learning.calibrate import Calibration, calibrate
from router_svc.learning.kernel import Points, Weights, similarity
from router_svc.learning.records import Floats

FOLDS: Final = 5
# Kernels and ridges that are tried; the best on requests kept from the training is used.
WEIGHTS: Final = (
    Weights(meaning=1, form=0, length=0.03),
    Weights(meaning=1, form=1, length=0.03),
    Weights(meaning=0.3, form=1, length=0.03),
)
RIDGES: Final = (3.0, 10.0, 30.0)
SHAPE_POINTS: Final = 300
"""Requests on which shapes are compared: the time grows with their cube, and nine are tried."""


@dataclass(frozen=True, slots=True)
class Head:
    """The predictor of one model.

    Attributes:
        points: The requests that it was trained with.
        weights: What each kernel counts for.
        pulls: How much each of those requests pulls the prediction, [points].
        level: What is predicted far from all of them.
        calibration: From raw predictions to probabilities.
    """

    points: Points
    weights: Weights
    pulls: Floats
    level: float
    calibration: Calibration

    def raw(self, points: Points) -> Floats:
        """Returns predictions before calibration, [len(points)]."""
        predicted: Floats = similarity(points, self.points, self.weights) @ self.pulls
        return predicted + self.level

    def chances(self, points: Points) -> Floats:
        """Returns how good the answers would be, 0 to 1, [len(points)]."""
        return self.calibration.of(self.raw(points))


@dataclass(frozen=True, slots=True)
class Shape:
    """Kernel weights and ridge of a head, and their squared error on others' requests."""

    weights: Weights
    ridge: float
    error: float


def fit_head(points: Points, scores: Floats) -> Head:
    """Returns a head trained with `scores`, its shape chosen by cross-validation.

    Args:
        points: The requests, in an order that says nothing.
        scores: How good the answers were, 0 to 1.
    """
    few = np.linspace(0, len(points) - 1, min(len(points), SHAPE_POINTS)).astype(int)
    shape = choose_shape(Points(points.features[few], points.meanings[few]), scores[few])
    kernel = similarity(points, points, shape.weights)
    pulls, level = _solve(kernel, scores, shape.ridge)
    calibration = calibrate(_held_out(kernel, scores, shape.ridge), scores)
    return Head(points, shape.weights, pulls, level, calibration)


def choose_shape(points: Points, scores: Floats) -> Shape:
    """Returns the shape with the smallest squared error on requests kept from the training."""
    shapes = []
    for weights in WEIGHTS:
        kernel = similarity(points, points, weights)
        for ridge in RIDGES:
            held_out = _held_out(kernel, scores, ridge)
            shapes.append(Shape(weights, ridge, float(((held_out - scores) ** 2).mean())))
    return min(shapes, key=lambda shape: shape.error)


def _held_out(kernel: Floats, scores: Floats, ridge: float) -> Floats:
    """Returns for each request what the others let expect."""
    folds = np.arange(len(scores)) % FOLDS
    predicted: Floats = np.empty(len(scores))
    for fold in range(FOLDS):
        out = folds == fold
        pulls, level = _solve(kernel[np.ix_(~out, ~out)], scores[~out], ridge)
        predicted[out] = kernel[np.ix_(out, ~out)] @ pulls + level
    return predicted


def _solve(kernel: Floats, scores: Floats, ridge: float) -> tuple[Floats, float]:
    level = float(scores.mean())
    pulls = np.linalg.solve(kernel + ridge * np.eye(len(scores)), scores - level)
    return pulls.astype(np.float64), level
