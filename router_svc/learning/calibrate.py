"""Turns raw predictions into probabilities (Platt scaling), and measures how true they are."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from router_svc.learning.records import Floats

_STEPS: Final = 25
# Holds the slope at little where there is little to learn from.
_RIDGE: Final = 1e-2
_BINS: Final = 10
_SMALLEST: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic curve: probability = 1 / (1 + exp(-(slope * raw + offset)))."""

    slope: float
    offset: float

    def of(self, raw: Floats) -> Floats:
        """Returns the probabilities of raw predictions."""
        return sigmoid(self.slope * raw + self.offset)


def sigmoid(values: Floats) -> Floats:
    """Returns the logistic function of `values`."""
    return 1 / (1 + np.exp(-np.clip(values, -30, 30)))


def calibrate(raw: Floats, scores: Floats) -> Calibration:
    """Returns the curve under which `scores` are likeliest (Platt 1999), by Newton's method.

    The targets are drawn in a little, as Platt proposes, so that a small sample without
    any failure does not claim certainty. A falling curve is not accepted: then the raw
    predictions say nothing, and the base rate is all there is.

    Args:
        raw: Predictions of requests that the predictor was not trained with.
        scores: How good the answers were, 0 to 1.
    """
    good = float(scores.sum())
    bad = len(scores) - good
    high, low = (good + 1) / (good + 2), 1 / (bad + 2)
    targets = scores * high + (1 - scores) * low
    # Over the raw values' own mean and spread, so that the ridge means the same everywhere.
    centre, spread = float(raw.mean()), float(raw.std()) or 1.0
    columns = np.stack([(raw - centre) / spread, np.ones_like(raw)], axis=1)
    ridge = np.diag([_RIDGE * len(raw), 0.0])
    curve = np.array([0.0, float(np.log(targets.mean() / (1 - targets.mean())))])
    for _ in range(_STEPS):
        chance = sigmoid(columns @ curve)
        slope = columns.T @ (chance - targets) + ridge @ curve
        weights = np.maximum(chance * (1 - chance), _SMALLEST)
        bend = (columns * weights[:, np.newaxis]).T @ columns + ridge
        curve = curve - np.linalg.solve(bend, slope)
    if curve[0] <= 0:
        return Calibration(0.0, float(np.log(targets.mean() / (1 - targets.mean()))))
    return Calibration(float(curve[0]) / spread, float(curve[1] - curve[0] * centre / spread))


def log_loss(chances: Floats, scores: Floats) -> float:
    """Returns the mean log loss in nats; scores between 0 and 1 count in parts."""
    sure = np.clip(chances, _SMALLEST, 1 - _SMALLEST)
    return float(-(scores * np.log(sure) + (1 - scores) * np.log(1 - sure)).mean())


def calibration_error(chances: Floats, scores: Floats) -> float:
    """Returns the expected calibration error over ten bins of equal width."""
    bins = np.minimum((chances * _BINS).astype(int), _BINS - 1)
    total = 0.0
    for each in range(_BINS):
        inside = bins == each
        if inside.any():
            total += inside.sum() * abs(chances[inside].mean() - scores[inside].mean())
    return float(total / len(scores))
