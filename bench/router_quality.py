"""How well a predictor tells which prompts need the strong model (RouteLLM's measures).

With c(x) the share of correct answers when the x % of the prompts with the highest
predicted need go to the strong model, PGR(x) = (c(x) - c(0)) / (c(100) - c(0)). APGR is
its mean over x, 0.5 for chance; CPT(p) is the smallest x with PGR >= p.

Everything is fitted on the training files. Which method counts is chosen by
cross-validation on them, too; the test files are only measured. Since one test set of some
hundred prompts says little, it is followed by its standard error, by that of the lead over
the length (both predictors on the same prompts), by the same for random divisions of all
prompts, and by what more prompts to learn from would bring.
"""

import asyncio
import csv
import gzip
import io
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.router_methods import METHODS, Labelled
from bench.router_texts import embedded
from router_svc.decide.features import features_of
from router_svc.requests.records import Message, Request, Role

Floats = NDArray[np.float64]

FOLDS = 10
REPEATS = 2
DRAWS = 200
NOTHING_LEARNT = "length"
SIZES = (0.25, 0.5, 1.0, 2.0)
"""Of the learning curve, as multiples of the training files' size."""
MEASURED_ON = 0.2
"""Share of all prompts that a size of the learning curve leaves at least to measure on."""


@dataclass(frozen=True)
class Curve:
    apgr: float
    cpt50: float
    cpt80: float


def measure_quality(train: Sequence[Path], test: Sequence[Path], *, splits: int) -> dict[str, Any]:
    fitted_on, measured_on = read(train), read(test)
    both = both_of(fitted_on, measured_on)
    known, unknown = np.arange(len(fitted_on)), np.arange(len(fitted_on), len(both))
    validated = cross_validated(fitted_on)
    chosen = max(validated, key=lambda name: validated[name])
    official = {name: measured(both, known, unknown, name) for name in METHODS}
    return {
        "apgr": round(official[chosen].apgr, 4),
        "cpt50": round(official[chosen].cpt50, 4),
        "cpt80": round(official[chosen].cpt80, 4),
        "oracle_apgr": round(oracle(measured_on), 4),
        "oracle_gap": round(oracle(measured_on) - official[chosen].apgr, 4),
        "chosen_on_train": chosen,
        "train_cross_validation": {name: round(value, 4) for name, value in validated.items()},
        "methods": {
            name: {
                "apgr": round(curve.apgr, 4),
                "cpt50": round(curve.cpt50, 4),
                "cpt80": round(curve.cpt80, 4),
            }
            for name, curve in official.items()
        },
        "splits": resplit(both, len(fitted_on), splits=splits),
        "learning_curve": learning_curve(both, chosen, _sizes(both, fitted_on), splits=splits),
        **redrawn(both, known, unknown, chosen),
        "conditions": {
            "train": [path.name for path in train],
            "test": [path.name for path in test],
            "train_prompts": len(fitted_on),
            "test_prompts": len(measured_on),
            "cores": os.cpu_count(),
        },
    }


def read(paths: Sequence[Path]) -> Labelled:
    rows: list[Mapping[str, str]] = []
    for path in paths:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        rows.extend(csv.DictReader(io.StringIO(text)))
    prompts = [row["prompt"] for row in rows]
    return Labelled(
        sources=np.array([row["source"] for row in rows]),
        features=np.array([_features(prompt) for prompt in prompts], dtype=np.float64),
        meanings=asyncio.run(embedded(prompts)).astype(np.float64),
        weak=np.array([float(row["weak_correct"]) for row in rows]),
        strong=np.array([float(row["strong_correct"]) for row in rows]),
    )


def _features(prompt: str) -> Any:
    return features_of(Request((Message(Role.USER, prompt),)))


def both_of(one: Labelled, other: Labelled) -> Labelled:
    return Labelled(
        *(
            np.concatenate([getattr(one, name), getattr(other, name)])
            for name in ("sources", "features", "meanings", "weak", "strong")
        )
    )


def curve_of(need: Floats, data: Labelled) -> Curve:
    """Scores of the order that `need` puts the prompts in."""
    order = np.argsort(-need, kind="stable")
    gains = np.concatenate([[0.0], np.cumsum((data.strong - data.weak)[order])])
    recovered = gains / gains[-1]
    shares = np.arange(len(gains)) / (len(gains) - 1)

    def smallest(level: float) -> float:
        return float(shares[np.argmax(recovered >= level)])

    return Curve(float(recovered.mean()), smallest(0.5), smallest(0.8))


def measured(data: Labelled, known: Any, unknown: Any, name: str) -> Curve:
    need = METHODS[name](data.take(known), data.take(unknown))
    return curve_of(need, data.take(unknown))


def oracle(data: Labelled) -> float:
    return curve_of(data.strong - data.weak, data).apgr


def cross_validated(data: Labelled) -> dict[str, float]:
    """APGR of each method on prompts of the training files that it was not fitted on."""
    draw = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(REPEATS):
        folds = np.array_split(draw.permutation(len(data)), FOLDS)
        for name, method in METHODS.items():
            need = np.zeros(len(data))
            for fold in folds:
                rest = np.setdiff1d(np.arange(len(data)), fold)
                need[fold] = method(data.take(rest), data.take(fold))
            found[name].append(curve_of(need, data).apgr)
    return {name: statistics.mean(values) for name, values in found.items()}


def resplit(data: Labelled, size: int, *, splits: int) -> dict[str, Any]:
    """The same for random divisions of all prompts into parts of the same sizes."""
    draw = np.random.default_rng(1)
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(splits):
        order = draw.permutation(len(data))
        for name in METHODS:
            found[name].append(measured(data, order[:size], order[size:], name).apgr)
    return {
        name: {
            "mean": round(statistics.mean(values), 4),
            "deviation": round(statistics.stdev(values), 4) if len(values) > 1 else 0.0,
            "each": [round(value, 4) for value in values],
        }
        for name, values in found.items()
        if values
    }


def learning_curve(
    data: Labelled, name: str, sizes: Sequence[int], *, splits: int
) -> dict[str, dict[str, float]]:
    """Mean APGR over random divisions, by the number of prompts that a method learns from.

    Beside it that of the length, as the prompts that are left differ from size to size.
    """
    draw = np.random.default_rng(3)
    orders = [draw.permutation(len(data)) for _ in range(splits)]
    return {
        str(size): {
            each: round(
                statistics.mean(
                    measured(data, order[:size], order[size:], each).apgr for order in orders
                ),
                4,
            )
            for each in dict.fromkeys((name, NOTHING_LEARNT))
        }
        for size in (sizes if orders else ())
    }


def _sizes(both: Labelled, fitted_on: Labelled) -> Sequence[int]:
    sizes = [round(part * len(fitted_on)) for part in SIZES]
    return [size for size in sizes if size <= (1 - MEASURED_ON) * len(both)]


def redrawn(data: Labelled, known: Any, unknown: Any, name: str) -> dict[str, float]:
    """Standard errors on the test files, by drawing their prompts again 200 times.

    That of the lead over the length is of both on the same draw.
    """
    test = data.take(unknown)
    needs = [METHODS[each](data.take(known), test) for each in (name, NOTHING_LEARNT)]
    draw = np.random.default_rng(2)
    values, leads = [], []
    for _ in range(DRAWS):
        rows = draw.integers(0, len(test), len(test))
        mine, lengths = (curve_of(need[rows], test.take(rows)).apgr for need in needs)
        values.append(mine)
        leads.append(mine - lengths)
    mine, lengths = (curve_of(need, test).apgr for need in needs)
    return {
        "standard_error": round(statistics.stdev(values), 4),
        "lead_over_length": round(mine - lengths, 4),
        "lead_standard_error": round(statistics.stdev(leads), 4),
    }
