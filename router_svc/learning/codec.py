"""Turns the API's reports and versions into the domain's, and back."""

import math

from router_svc.learning.records import PredictorState, Report, Version
from stepwire.api.router.v1 import predictor_service_pb2 as pb
from stepwire.api.router.v1.router_service_pb2 import ReportOutcomeRequest
from stepwire.errors import field_invalid
from stepwire.ids import parse_uuid

_STATES = {
    PredictorState.REFUSED: pb.PREDICTOR_STATE_REFUSED,
    PredictorState.ACTIVE: pb.PREDICTOR_STATE_ACTIVE,
    PredictorState.RETIRED: pb.PREDICTOR_STATE_RETIRED,
}


def report_of(request: ReportOutcomeRequest, *, tenant_id: str) -> Report:
    """Returns what `request` reports.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    try:
        decision_id = parse_uuid(request.decision_id)
    except ValueError:
        raise field_invalid("decision_id", "is not the id of a decision") from None
    which = request.WhichOneof("outcome")
    if which is None:
        raise field_invalid("outcome", "must be success or score")
    score = float(request.success) if which == "success" else request.score
    if math.isnan(score) or not 0.0 <= score <= 1.0:
        raise field_invalid("score", f"must be from 0 to 1, is {score:g}")
    return Report(tenant_id, decision_id, score, request.chosen_alternative)


def write_version(version: Version, message: pb.Predictor) -> None:
    """Writes `version` into `message`."""
    judged = version.judgement
    message.MergeFrom(
        pb.Predictor(
            version=version.version,
            state=_STATES[version.state],
            outcomes=version.outcomes,
            held_out=judged.held_out,
            log_loss=judged.log_loss,
            log_loss_before=judged.log_loss_before,
            models=version.models,
            explanation=judged.told,
            calibration_error=judged.calibration_error,
        )
    )
    message.created_at.FromDatetime(version.created_at)
