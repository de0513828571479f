"""Turns decisions into those of the API."""

from router_svc.catalogue.codec import TIERS
from router_svc.decide.records import Candidate, Decision
from stepwire.api.router.v1 import decision_pb2 as pb


def encode_decision(decision: Decision) -> pb.Decision:
    """Returns `decision` with its candidates, the chosen one first, the rejected last."""
    chosen = decision.chosen
    return pb.Decision(
        model=chosen.model.name,
        explanation=decision.explanation,
        candidates=[_candidate(each, decision) for each in (*decision.tries, *decision.rejected)],
        input_tokens=chosen.input_tokens,
        input_tokens_exact=chosen.exact,
        decision_id=str(decision.decision_id),
        reasons=[_REASONS[reason.value] for reason in decision.reasons],
        complexity=pb.Complexity(
            score=decision.complexity.score,
            signals=[
                pb.Signal(name=each.name, weight=each.weight)
                for each in decision.complexity.signals
            ],
        ),
        kind="" if decision.kind is None else decision.kind.value,
        needed_quality=decision.need.quality,
        propensity=decision.propensity,
        predictor_version=decision.predictor_version,
        catalogue_version=decision.catalogue_version,
    )


def _candidate(candidate: Candidate, decision: Decision) -> pb.Candidate:
    return pb.Candidate(
        model=candidate.model.name,
        quality=candidate.quality,
        cost_micro_usd=candidate.cost_micro_usd,
        rejected=candidate.rejected,
        rejection_codes=[_CODES[each.code.value] for each in candidate.rejections],
        worst_cost_micro_usd=candidate.worst_cost_micro_usd,
        catalogue_quality=candidate.model.quality_for(decision.kind),
        tier=TIERS[candidate.model.tier],
        resting=candidate.standing.resting,
        input_tokens=candidate.input_tokens,
    )


_REASONS = {
    name.removeprefix("DECISION_REASON_"): number for name, number in pb.DecisionReason.items()
}
_CODES = {name.removeprefix("REJECTION_CODE_"): number for name, number in pb.RejectionCode.items()}
