"""The figures by which the benchmark judges how well the router chooses."""

import numpy as np
import pytest

from bench.router_methods import Labelled
from bench.router_quality import curve_of, learning_curve, oracle, redrawn


def some_prompts(count: int, *, told_by_length: bool) -> Labelled:
    """Prompts of which a third need the strong model: the longest ones, or any."""
    draw = np.random.default_rng(4)
    lengths = draw.normal(size=count)
    needed = np.argsort(np.argsort(-lengths if told_by_length else draw.random(count)))
    meanings = draw.normal(size=(count, 8))
    return Labelled(
        sources=np.full(count, "one"),
        features=np.stack([lengths, draw.normal(size=count)], axis=1),
        meanings=meanings / np.linalg.norm(meanings, axis=1, keepdims=True),
        weak=(needed >= count // 3).astype(np.float64),
        strong=np.ones(count),
    )


def test_the_best_order_recovers_all_at_once_and_the_worst_at_last() -> None:
    prompts = some_prompts(300, told_by_length=True)
    gain = prompts.strong - prompts.weak
    best, worst = curve_of(gain, prompts), curve_of(-gain, prompts)
    # A third of the way up in a straight line, then at the top: 1/6 + 2/3.
    assert best.apgr == pytest.approx(5 / 6, abs=0.01)
    assert best.apgr == oracle(prompts)
    assert best.cpt50 == pytest.approx(1 / 6, abs=0.01)
    assert best.cpt80 == pytest.approx(0.8 / 3, abs=0.01)
    assert worst.apgr == pytest.approx(1 / 6, abs=0.01)
    assert worst.cpt50 == pytest.approx(5 / 6, abs=0.01)


def test_a_strong_model_that_also_errs_makes_the_oracle_better_than_all_of_it() -> None:
    prompts = some_prompts(300, told_by_length=True)
    prompts.strong[prompts.weak > 0] = np.arange(200) % 4 > 0
    assert oracle(prompts) > 1


def test_a_lead_is_of_the_same_prompts_and_has_a_smaller_error_than_either() -> None:
    prompts = some_prompts(200, told_by_length=True)
    known, unknown = np.arange(100), np.arange(100, 200)
    alone = redrawn(prompts, known, unknown, "length")
    assert (alone["lead_over_length"], alone["lead_standard_error"]) == (0.0, 0.0)
    blind = redrawn(prompts, known, unknown, "neighbours")
    assert blind["lead_over_length"] < -2 * blind["lead_standard_error"] < 0
    assert blind["standard_error"] > 0


def test_a_learning_curve_shows_what_the_length_does_on_the_same_divisions() -> None:
    prompts = some_prompts(200, told_by_length=True)
    curve = learning_curve(prompts, "neighbours", [20, 100], splits=3)
    assert list(curve) == ["20", "100"]
    assert all(point["length"] == pytest.approx(5 / 6, abs=0.05) for point in curve.values())
    assert all(point["neighbours"] < 0.7 for point in curve.values())
    chance = some_prompts(200, told_by_length=False)
    assert learning_curve(chance, "length", [100], splits=3)["100"]["length"] < 0.7
    assert learning_curve(chance, "length", [100], splits=0) == {}
