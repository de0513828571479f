"""Says why a decision is what it is: for people, for programs, and as a refusal."""

from collections.abc import Sequence

from router_svc.decide.order import Order
from router_svc.decide.records import Candidate, DecisionReason, Need
from router_svc.requests.records import Request
from stepwire.errors import Reason, StepwireError


def explain(order: Order, need: Need, request: Request) -> str:
    """Returns the explanation of an order, for people."""
    chosen = order.tries[0]
    name = chosen.model.name
    if request.model:
        return f"{name} is named by the request"
    late = [each.model.name for each in order.tries if each.standing.resting]
    wanted = f"quality {need.quality:g} is needed ({need.reason})"
    among = f", {', '.join(late)} being left to rest after failures" if late else ""
    if order.explored:
        why = f"{name} ({chosen.quality:.3g}) was drawn, to learn how it does"
    elif chosen.quality >= need.quality:
        why = f"{name} ({chosen.quality:.3g}) is the cheapest that has it"
    else:
        why = f"no model that may answer has it, and {name} ({chosen.quality:.3g}) is nearest"
    return f"{wanted}; {why}{among}"


def reasons_of(
    order: Order, need: Need, request: Request, *, learnt: bool, blind: bool
) -> tuple[DecisionReason, ...]:
    """Returns the explanation of an order, for programs.

    Args:
        order: The order.
        need: The quality needed.
        request: The request.
        learnt: Whether a predictor gave the qualities.
        blind: Whether the request's meaning was wanted and could not be had.
    """
    chosen = order.tries[0]
    reasons = []
    if request.model:
        reasons.append(DecisionReason.NAMED)
    elif order.explored:
        reasons.append(DecisionReason.EXPLORED)
    elif chosen.quality >= need.quality:
        reasons.append(DecisionReason.CHEAPEST_SUFFICIENT)
    else:
        reasons.append(DecisionReason.NEAREST_QUALITY)
    if len(order.tries) == 1:
        reasons.append(DecisionReason.ONLY_ELIGIBLE)
    if any(each.standing.resting and _before(each, chosen, need) for each in order.tries[1:]):
        reasons.append(DecisionReason.BETTER_ONE_RESTS)
    if learnt:
        reasons.append(DecisionReason.LEARNT_QUALITY)
    if blind:
        reasons.append(DecisionReason.WITHOUT_EMBEDDING)
    return tuple(reasons)


def unknown_model(name: str) -> StepwireError:
    """Returns MODEL_NOT_FOUND for a name that the catalogue does not have."""
    return StepwireError(
        Reason.MODEL_NOT_FOUND,
        f"the catalogue has no model called {name!r}",
        metadata={"model": name},
    )


def nobody_eligible(rejected: Sequence[Candidate]) -> StepwireError:
    """Returns NO_ELIGIBLE_MODEL, with the reason of each rejection."""
    reasons = {candidate.model.name: candidate.rejected for candidate in rejected}
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return StepwireError(
        Reason.NO_ELIGIBLE_MODEL,
        f"no model of the catalogue may answer this request: {listed}",
        metadata={f"rejected.{name}": reason for name, reason in reasons.items()},
    )


def _before(one: Candidate, other: Candidate, need: Need) -> bool:
    """Tells whether `one` would go before `other` if it did not rest."""
    if (one.quality >= need.quality) != (other.quality >= need.quality):
        return one.quality >= need.quality
    if one.quality >= need.quality:
        return one.cost_micro_usd < other.cost_micro_usd
    return one.quality > other.quality
