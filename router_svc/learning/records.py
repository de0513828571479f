"""What is learnt from, and what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from router_svc.decide.ports import Vector

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision as it is remembered.

    Attributes:
        decision_id: Names it.
        tenant_id: Whose it is.
        model: The model decided on.
        answered_by: The model that answered after all; empty while that is not known.
        propensity: Probability with which `model` was drawn.
        predictor_version: Which predictor gave the qualities; 0 for the catalogue.
        catalogue_version: Which catalogue it was made with.
        candidates: The models that might have answered, in the order of trying, each with
            its predicted quality and its expected cost in millionths of a US dollar.
        features: What the request looked like.
        meaning: What it meant; None where that was not asked for.
    """

    decision_id: UUID
    tenant_id: str
    model: str
    answered_by: str
    propensity: float
    predictor_version: int
    catalogue_version: str
    candidates: Sequence[tuple[str, float, int]]
    features: Vector
    meaning: Vector | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a caller says of an answer.

    Attributes:
        tenant_id: Whose decision it speaks of.
        decision_id: Which.
        score: How good the answer was, 0 to 1.
        chosen_alternative: The model whose answer was used instead; empty when it was
            the one that answered.
    """

    tenant_id: str
    decision_id: UUID
    score: float
    chosen_alternative: str = ""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of one or several models, as columns of the same length.

    Attributes:
        decisions: Which decision each belongs to.
        models: Whose answer it was.
        scores: How good it was, 0 to 1.
        features: What the requests looked like, [outcomes, features].
        meanings: What they meant, [outcomes, dimensions], each of length 1.
    """

    decisions: Sequence[UUID]
    models: Sequence[str]
    scores: Floats
    features: Floats
    meanings: Floats

    def __len__(self) -> int:
        return len(self.models)

    def take(self, rows: NDArray[np.intp]) -> "Outcomes":
        """Returns the outcomes at `rows`."""
        return Outcomes(
            [self.decisions[row] for row in rows],
            [self.models[row] for row in rows],
            self.scores[rows],
            self.features[rows],
            self.meanings[rows],
        )


class PredictorState(StrEnum):
    """What became of a version; the values are those of the record."""

    REFUSED = "REFUSED"
    ACTIVE = "ACTIVE"
    RETIRED = "RETIRED"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a comparison on outcomes that were kept from the training came to.

    Attributes:
        held_out: How many they were.
        log_loss: Of the new version, in nats.
        log_loss_before: Of what was in use.
        calibration_error: Expected calibration error of the new version.
        accepted: Whether the new version is better.
        told: Why, for people.
    """

    held_out: int
    log_loss: float
    log_loss_before: float
    calibration_error: float
    accepted: bool
    told: str


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that was trained, before it has a number."""

    judgement: Judgement
    outcomes: int
    models: Sequence[str]
    parameters: bytes


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the predictor as it is kept; `parameters` may be gone."""

    version: int
    state: PredictorState
    outcomes: int
    judgement: Judgement
    models: Sequence[str]
    parameters: bytes | None
    created_at: datetime
