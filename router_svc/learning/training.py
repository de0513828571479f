"""Trains a version of the predictor, and compares it with the one in use."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router_svc.learning.calibrate import calibration_error, log_loss
from router_svc.learning.head import fit_head
from router_svc.learning.kernel import Points, scale_of
from router_svc.learning.predictor import LearntPredictor, dump
from router_svc.learning.records import Floats, Judgement, NewVersion, Outcomes

MIN_OUTCOMES: Final = 40
"""Outcomes of one model below which nothing is learnt of it."""
MAX_OUTCOMES: Final = 1_500
"""Outcomes of one model, the newest, that are learnt from: time and memory grow with them."""
HELD_OUT: Final = 0.25
MIN_HELD_OUT: Final = 20
MIN_GAIN: Final = 0.005
"""By how many nats of log loss a version must be better, so that chance alone seldom suffices."""


def train(
    outcomes: Outcomes, before: LearntPredictor | None, qualities: Mapping[str, float]
) -> NewVersion:
    """Returns a version trained from `outcomes`, judged on a part of them.

    A quarter of the decisions, by their ids and so at random, is kept from the training
    and used to compare. The version is not trained again with all of them: the next one
    is compared with it on the same quarter, and more.

    Args:
        outcomes: The newest outcomes, the newest first.
        before: The version in use; None when decisions go by the catalogue.
        qualities: The catalogue's, by model.
    """
    held = held_out(outcomes)
    kept, rest = outcomes.take(np.flatnonzero(~held)), outcomes.take(np.flatnonzero(held))
    trial = fit(kept)
    if not trial.heads or len(rest) < MIN_HELD_OUT:
        told = f"there are too few outcomes: {len(outcomes)}, and {MIN_OUTCOMES} of a model needed"
        return _refused(outcomes, Judgement(len(rest), 0.0, 0.0, 0.0, accepted=False, told=told))
    judgement = judge(trial, rest, before, _qualities(rest, qualities))
    if not judgement.accepted:
        return _refused(outcomes, judgement)
    return NewVersion(judgement, len(outcomes), sorted(trial.heads), dump(trial))


def fit(outcomes: Outcomes) -> LearntPredictor:
    """Returns a predictor with a head for each model of which enough is known."""
    if len(outcomes) == 0:
        return LearntPredictor(0, scale_of(np.zeros((1, 1))), {})
    scale = scale_of(outcomes.features)
    models = np.array(outcomes.models)
    heads = {}
    for name in sorted(set(outcomes.models)):
        rows = np.flatnonzero(models == name)[:MAX_OUTCOMES]
        if len(rows) < MIN_OUTCOMES:
            continue
        points = Points(scale.of(outcomes.features[rows]), outcomes.meanings[rows])
        heads[name] = fit_head(points, outcomes.scores[rows])
    return LearntPredictor(0, scale, heads)


def held_out(outcomes: Outcomes) -> NDArray[np.bool_]:
    """Tells which outcomes are kept from the training: by decision, so that none is on both sides.

    The last bits of a UUIDv7 are random, and the same at every training: what was kept
    from one version was kept from the one before, too.
    """
    drawn = [decision.int % 1024 < HELD_OUT * 1024 for decision in outcomes.decisions]
    return np.array(drawn, dtype=bool)


def judge(
    new: LearntPredictor, rest: Outcomes, before: LearntPredictor | None, qualities: Floats
) -> Judgement:
    """Compares a version with what is in use, on outcomes that neither has seen.

    Args:
        new: The version.
        rest: The outcomes.
        before: The version in use; None for the catalogue's qualities.
        qualities: The catalogue's quality of each outcome's model.
    """
    used = qualities if before is None else before.chances(rest, qualities)
    mine = new.chances(rest, qualities)
    loss, loss_before = log_loss(mine, rest.scores), log_loss(used, rest.scores)
    accepted = loss_before - loss >= MIN_GAIN
    name = "the catalogue's qualities" if before is None else f"version {before.version}"
    told = (
        f"log loss {loss:.4f} against {loss_before:.4f} of {name} "
        f"on {len(rest)} outcomes kept from the training"
    )
    return Judgement(
        held_out=len(rest),
        log_loss=loss,
        log_loss_before=loss_before,
        calibration_error=calibration_error(mine, rest.scores),
        accepted=accepted,
        told=told,
    )


def _qualities(outcomes: Outcomes, qualities: Mapping[str, float]) -> Floats:
    return np.array([qualities.get(name, 0.5) for name in outcomes.models])


def _refused(outcomes: Outcomes, judgement: Judgement) -> NewVersion:
    return NewVersion(judgement, len(outcomes), (), b"")
