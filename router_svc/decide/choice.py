"""Puts the models that may answer into the order in which they are tried."""

from collections.abc import Collection
from dataclasses import dataclass

from router_svc.catalogue.models import Catalogue, Model
from router_svc.decide.filters import Demands, output_tokens, rejection
from router_svc.decide.need import Need, need_of
from router_svc.decide.passage import find_passage
from router_svc.generate.ports import TokenCounter
from router_svc.requests.records import Request
from router_svc.tokens.estimate import count_request
from stepwire.errors import Reason, StepwireError

# Costs are compared for an answer of this length, or a shorter one where the limit is
# lower: few answers reach a model's limit, and ranking by limits would favour models
# for being allowed less.
EXPECTED_OUTPUT_TOKENS = 400


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model as seen by a decision.

    Attributes:
        model: The model.
        cost_micro_usd: Expected cost of the request, in millionths of a US dollar.
        rejected: Why it may not answer; empty when it may.
    """

    model: Model
    cost_micro_usd: int
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A choice among the models.

    Attributes:
        tries: The models that may answer, in the order of trying; at least one.
        rejected: The others, in the catalogue's order.
        explanation: Why the first of `tries` is the first, for people.
        input_tokens: Tokens estimated for the request.
    """

    tries: tuple[Candidate, ...]
    rejected: tuple[Candidate, ...]
    explanation: str
    input_tokens: int

    @property
    def chosen(self) -> Candidate:
        """The model to try first."""
        return self.tries[0]


def decide(
    request: Request,
    *,
    catalogue: Catalogue,
    counter: TokenCounter,
    resting: Collection[str] = (),
) -> Decision:
    """Returns which models may answer `request`, best first.

    The best is the cheapest whose quality meets the need; at the same cost, the one
    that the catalogue lists first. When none meets an estimated need, the best is the
    one of the highest quality. After it come its own fallbacks, then the rest, those
    that meet the need before those that do not, each by cost.

    Args:
        request: The request.
        catalogue: The models to choose from.
        counter: Counts the request's tokens.
        resting: Names of models that failed lately; they are tried after all others.

    Raises:
        StepwireError: MODEL_NOT_FOUND when the request names a model that the
            catalogue does not have; NO_ELIGIBLE_MODEL when every model is rejected.
    """
    if request.model and catalogue.find(request.model) is None:
        raise StepwireError(
            Reason.MODEL_NOT_FOUND,
            f"the catalogue has no model called {request.model!r}",
            metadata={"model": request.model},
        )
    demands = Demands(
        request=request,
        input_tokens=count_request(counter, request),
        has_text=find_passage(request) is not None,
    )
    seen = [_look_at(model, demands) for model in catalogue.models]
    eligible = [candidate for candidate in seen if not candidate.rejected]
    rejected = tuple(candidate for candidate in seen if candidate.rejected)
    if not eligible:
        raise _no_eligible(rejected)
    need = need_of(
        request,
        has_text=demands.has_text,
        question_tokens=counter.count(request.question),
    )
    tries = _order(eligible, need, resting)
    return Decision(
        tries=tries,
        rejected=rejected,
        explanation=_explain(tries, need, resting, named=bool(request.model)),
        input_tokens=demands.input_tokens,
    )


def _look_at(model: Model, demands: Demands) -> Candidate:
    answer = min(output_tokens(model, demands.request), EXPECTED_OUTPUT_TOKENS)
    return Candidate(
        model=model,
        cost_micro_usd=model.cost_micro_usd(
            input_tokens=demands.input_tokens, output_tokens=answer
        ),
        rejected=rejection(model, demands),
    )


def _order(
    eligible: list[Candidate], need: Need, resting: Collection[str]
) -> tuple[Candidate, ...]:
    def rank(candidate: Candidate) -> tuple[bool, bool, float, int]:
        meets = candidate.model.quality >= need.quality
        # Sorting is stable: the catalogue's order breaks ties.
        return (
            candidate.model.name in resting,
            not meets,
            0.0 if meets else -candidate.model.quality,
            candidate.cost_micro_usd,
        )

    ranked = sorted(eligible, key=rank)
    first = ranked[0]
    by_name = {candidate.model.name: candidate for candidate in ranked}
    fallbacks = [by_name[name] for name in first.model.fallbacks if name in by_name]
    # A fallback that rests gains nothing from being named: it waits with the others.
    awake = [candidate for candidate in fallbacks if candidate.model.name not in resting]
    rest = [each for each in ranked if each is not first and each not in awake]
    return (first, *awake, *rest)


def _explain(
    tries: tuple[Candidate, ...], need: Need, resting: Collection[str], *, named: bool
) -> str:
    chosen = tries[0].model
    if named:
        return f"{chosen.name} is named by the request"
    late = [each.model.name for each in tries if each.model.name in resting]
    wanted = f"quality {need.quality:g} is needed ({need.reason})"
    among = f", {', '.join(late)} being left to rest after failures" if late else ""
    if chosen.quality >= need.quality:
        why = f"{chosen.name} ({chosen.quality:g}) is the cheapest that has it"
    else:
        why = f"no model that may answer has it, and {chosen.name} ({chosen.quality:g}) is nearest"
    return f"{wanted}; {why}{among}"


def _no_eligible(rejected: tuple[Candidate, ...]) -> StepwireError:
    reasons = {candidate.model.name: candidate.rejected for candidate in rejected}
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return StepwireError(
        Reason.NO_ELIGIBLE_MODEL,
        f"no model of the catalogue may answer this request: {listed}",
        metadata={f"rejected.{name}": reason for name, reason in reasons.items()},
    )
