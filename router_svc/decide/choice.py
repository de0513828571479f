"""Chooses among the models of one catalogue. Pure: no I/O, no clock, no chance but the seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from router_svc.catalogue.holder import Snapshot
from router_svc.decide.complexity import complexity_of
from router_svc.decide.explain import explain, nobody_eligible, reasons_of
from router_svc.decide.need import need_of
from router_svc.decide.order import order_of, seed_of
from router_svc.decide.ports import Allowance, Availability
from router_svc.decide.records import Candidate, Decision, RejectionCode
from router_svc.decide.view import View, look_at
from router_svc.requests.records import Request
from stepwire.errors import StepwireError


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides.

    Attributes:
        explore: Probability with which a model is drawn at random, 0 to 1.
        sufficient: Predicted quality that is enough where nobody asks for more.
    """

    explore: float = 0.0
    sufficient: float = 0.75


def choose(
    view: View,
    snapshot: Snapshot,
    *,
    availability: Availability,
    allowance: Allowance,
    policy: Policy,
    decision_id: UUID,
) -> Decision:
    """Returns which models may answer a request, best first.

    Where only budgets keep models from answering, these are tried all the same: what budgets
    have left is known as of a moment ago, and they are asked before each try.

    Raises:
        StepwireError: NO_ELIGIBLE_MODEL when every model is rejected.
    """
    request, learnt = view.request, view.learnt
    seen = [
        look_at(model, view, availability=availability, allowance=allowance)
        for model in snapshot.catalogue.models
    ]
    over_budget = None
    if all(candidate.rejections for candidate in seen):
        over_budget = _over_budget(seen, request, allowance)
        seen = [_tried_all_the_same(candidate) for candidate in seen]
    eligible = [candidate for candidate in seen if not candidate.rejections]
    if not eligible:
        raise nobody_eligible(seen)
    complexity = complexity_of(
        request, question_tokens=view.question_tokens, hardness=view.hardness
    )
    need = need_of(
        request,
        complexity,
        has_text=view.has_text,
        sufficient=None if learnt is None else policy.sufficient,
    )
    explore = 0.0 if request.model else policy.explore
    order = order_of(eligible, need, explore=explore, seed=seed_of(request) if explore else 0)
    return Decision(
        decision_id=decision_id,
        tries=order.tries,
        rejected=tuple(candidate for candidate in seen if candidate.rejections),
        explanation=explain(order, need, request),
        reasons=reasons_of(order, need, request, learnt=learnt is not None, blind=view.blind),
        need=need,
        complexity=complexity,
        kind=view.kind,
        propensity=order.propensity,
        predictor_version=0 if learnt is None else learnt.version,
        catalogue_version=snapshot.version,
        over_budget=over_budget,
    )


def _over_budget(
    seen: Sequence[Candidate], request: Request, allowance: Allowance
) -> StepwireError | None:
    """Returns the refusal for the cheapest model that only a budget keeps from answering."""
    kept = [each for each in seen if _is_only_too_dear(each)]
    if not kept:
        return None
    cheapest = min(kept, key=lambda each: each.cost_micro_usd)
    left = allowance.left(request, cheapest.model)
    return None if left is None else left.refusal(cheapest.worst_cost_micro_usd)


def _tried_all_the_same(candidate: Candidate) -> Candidate:
    return replace(candidate, rejections=()) if _is_only_too_dear(candidate) else candidate


def _is_only_too_dear(candidate: Candidate) -> bool:
    return all(rejection.code is RejectionCode.BUDGET for rejection in candidate.rejections)
