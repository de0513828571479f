"""Whether the predictor learns what there is to learn, and admits when there is nothing."""

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from router_svc.learning.calibrate import calibrate, calibration_error, log_loss
from router_svc.learning.predictor import LearntPredictor, dump, load
from router_svc.learning.records import Outcomes
from router_svc.learning.training import fit, held_out, train

DIMENSIONS, FEATURES = 16, 5
# The catalogue believes both models equal.
QUALITIES = {"small": 0.6, "large": 0.6}


def some_outcomes(
    count: int, *, told_by: float = 1.0, models: tuple[str, ...] = ("small", "large")
) -> Outcomes:
    """Outcomes where the first direction of the meaning tells whether `small` succeeds.

    Args:
        count: How many.
        told_by: How far it tells; at 0 success is chance.
        models: Whose they are, in turn.
    """
    draw = np.random.default_rng(7)
    meanings = draw.normal(size=(count, DIMENSIONS))
    meanings[:, 0] *= 3
    meanings /= np.linalg.norm(meanings, axis=1, keepdims=True)
    names = [models[place % len(models)] for place in range(count)]
    lead = np.where(np.array(names) == "small", 6 * told_by * meanings[:, 0], 2.0)
    chances = 1 / (1 + np.exp(-lead))
    return Outcomes(
        decisions=[UUID(int=int(number)) for number in draw.integers(0, 2**60, count)],
        models=names,
        scores=(draw.random(count) < chances).astype(np.float64),
        features=draw.normal(size=(count, FEATURES)),
        meanings=meanings,
    )


def test_what_there_is_to_learn_is_learnt_and_accepted() -> None:
    new = train(some_outcomes(400), None, QUALITIES)
    assert new.judgement.accepted
    assert new.models == ["large", "small"]
    assert new.judgement.log_loss < new.judgement.log_loss_before - 0.1
    assert new.judgement.calibration_error < 0.1
    predictor = load(new.parameters, version=3)
    easy, hard = np.eye(DIMENSIONS, dtype=np.float32)[0], -np.eye(DIMENSIONS, dtype=np.float32)[0]
    blank = np.zeros(FEATURES, dtype=np.float32)
    assert predictor.version == 3
    assert predictor.predict(blank, easy)["small"] > 0.8
    assert predictor.predict(blank, hard)["small"] < 0.2
    assert predictor.predict(blank, hard)["large"] > 0.7


def test_a_version_that_is_no_better_is_refused() -> None:
    outcomes = some_outcomes(400)
    first = load(train(outcomes, None, QUALITIES).parameters, version=1)
    second = train(outcomes, first, QUALITIES)
    assert not second.judgement.accepted
    assert second.parameters == b""
    assert "of version 1 on" in second.judgement.told


def test_chance_is_predicted_as_what_happens_on_average() -> None:
    outcomes = some_outcomes(400, told_by=0.0, models=("small",))
    fitted = fit(outcomes)
    chances = fitted.chances(some_outcomes(200, told_by=0.0, models=("small",)), np.zeros(200))
    assert chances.mean() == pytest.approx(outcomes.scores.mean(), abs=0.05)
    assert chances.std() < 0.1


@pytest.mark.parametrize("count", [0, 1, 30])
def test_too_few_outcomes_are_said_to_be_too_few(count: int) -> None:
    new = train(some_outcomes(count), None, QUALITIES)
    assert not new.judgement.accepted
    assert "too few outcomes" in new.judgement.told


def test_a_decision_is_never_on_both_sides() -> None:
    outcomes = some_outcomes(400)
    doubled = Outcomes(
        [*outcomes.decisions] * 2,
        [*outcomes.models] * 2,
        np.tile(outcomes.scores, 2),
        np.tile(outcomes.features, (2, 1)),
        np.tile(outcomes.meanings, (2, 1)),
    )
    held = held_out(doubled)
    assert (held[:400] == held[400:]).all()
    assert 0.15 < held.mean() < 0.35


def test_a_model_of_which_little_is_known_has_no_head() -> None:
    outcomes = some_outcomes(300)
    outcomes = outcomes.take(np.flatnonzero([*([True] * 60), *([False] * 240)]))
    assert not fit(outcomes).heads


def test_a_predictor_survives_being_written_and_read() -> None:
    fitted = fit(some_outcomes(300))
    again = load(dump(fitted), version=9)
    blank = np.zeros(FEATURES, dtype=np.float32)
    meaning = np.eye(DIMENSIONS, dtype=np.float32)[1]
    before, after = fitted.predict(blank, meaning), again.predict(blank, meaning)
    assert isinstance(again, LearntPredictor)
    assert after == pytest.approx(before, abs=1e-3)


def test_nothing_is_predicted_from_the_meanings_of_another_model() -> None:
    fitted = fit(some_outcomes(300))
    blank = np.zeros(FEATURES, dtype=np.float32)
    assert fitted.predict(blank, np.ones(DIMENSIONS + 1, dtype=np.float32)) == {}
    others = replace(some_outcomes(20), meanings=np.ones((20, DIMENSIONS + 1)))
    otherwise = np.linspace(0, 1, 20)
    assert (fitted.chances(others, otherwise) == otherwise).all()


def test_calibration_keeps_the_order_and_matches_what_happens() -> None:
    draw = np.random.default_rng(3)
    truth = draw.random(4_000)
    scores = (draw.random(4_000) < truth).astype(np.float64)
    # Overconfident, and on another scale.
    raw = 20 * (truth - 0.5)
    chances = calibrate(raw, scores).of(raw)
    assert (np.argsort(chances) == np.argsort(raw)).all()
    assert calibration_error(chances, scores) < 0.05
    assert log_loss(chances, scores) < log_loss(np.full(4_000, 0.5), scores)


def test_a_prediction_that_misleads_is_calibrated_away() -> None:
    scores = np.array([0.0, 1.0] * 100)
    curve = calibrate(1 - scores, scores)
    assert curve.slope == 0
    assert curve.of(np.array([5.0]))[0] == pytest.approx(0.5, abs=0.01)
