"""What holds for every catalogue and every request."""

from collections.abc import Collection

from hypothesis import given, settings
from hypothesis import strategies as st

from router_svc.catalogue.models import Catalogue, Model
from router_svc.decide.passage import is_quotable
from router_svc.decide.records import Decision
from router_svc.requests.records import Request
from router_svc.tokens.estimate import EstimatedTokens
from router_svc.tokens.families import count_request
from stepwire.errors import Reason, StepwireError
from tests.unit.router_svc.router_builders import (
    EXTRACTIVE,
    OPENAI,
    a_catalogue,
    a_document,
    a_model,
    a_request,
    decide_on,
)

CAPABILITIES = ["grounding", "json", "vision"]
NAMES = [f"model-{number}" for number in range(5)]
COUNTER = EstimatedTokens()
QUALITIES = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
WORDS = st.sampled_from(["why", "code", "rain", "river", "3 + 4", "compare", "?", ". ", "write"])


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    count = draw(st.integers(1, len(NAMES)))
    models: list[Model] = []
    for name in NAMES[:count]:
        fallbacks = draw(
            st.lists(st.sampled_from([m.name for m in models]), unique=True)
            if models
            else st.just([])
        )
        models.append(
            a_model(
                name,
                provider=draw(st.sampled_from([EXTRACTIVE, OPENAI])),
                quality=draw(QUALITIES),
                context_window=draw(st.sampled_from([60, 300, 10_000])),
                max_output_tokens=draw(st.sampled_from([10, 50])),
                capabilities=draw(st.sets(st.sampled_from(CAPABILITIES))),
                input_usd_per_million_tokens=draw(st.integers(0, 20)),
                output_usd_per_million_tokens=draw(st.integers(0, 20)),
                fallbacks=fallbacks,
            )
        )
    return a_catalogue(*draw(st.permutations(models)))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    documents = [a_document(f"d{number}") for number in range(draw(st.integers(0, 2)))]
    return a_request(
        " ".join(draw(st.lists(WORDS, min_size=1, max_size=120))),
        documents=tuple(documents),
        model=draw(st.sampled_from(["", "", "", *NAMES])),
        min_quality=draw(QUALITIES),
        capabilities=tuple(draw(st.sets(st.sampled_from(CAPABILITIES), max_size=2))),
        max_output_tokens=draw(st.sampled_from([0, 5, 100])),
    )


def may_answer(model: Model, request: Request) -> bool:
    """Says the contract again, in other words than the rules."""
    output = min(request.max_output_tokens or model.max_output_tokens, model.max_output_tokens)
    return (
        request.model in ("", model.name)
        and set(request.capabilities) <= model.capabilities
        and model.quality >= request.min_quality
        and count_request(COUNTER, request) + output <= model.context_window
        and (not model.quotes_only or bool(request.documents) or is_quotable(request.question))
    )


def outcome_of(
    catalogue: Catalogue, request: Request, resting: Collection[str] = ()
) -> Decision | StepwireError:
    try:
        return decide_on(request, catalogue, resting=resting)
    except StepwireError as error:
        return error


@settings(deadline=None)
@given(catalogues(), requests(), st.sets(st.sampled_from(NAMES)))
def test_exactly_the_models_that_may_answer_are_tried(
    catalogue: Catalogue, request: Request, resting: set[str]
) -> None:
    eligible = {model.name for model in catalogue.models if may_answer(model, request)}
    outcome = outcome_of(catalogue, request, resting)
    if isinstance(outcome, StepwireError):
        assert not eligible
        return
    assert sorted(each.model.name for each in outcome.tries) == sorted(eligible)
    assert not any(each.rejected for each in outcome.tries)


@settings(deadline=None)
@given(catalogues(), requests(), st.sets(st.sampled_from(NAMES)))
def test_every_model_is_explained_once(
    catalogue: Catalogue, request: Request, resting: set[str]
) -> None:
    names = sorted(model.name for model in catalogue.models)
    outcome = outcome_of(catalogue, request, resting)
    if isinstance(outcome, Decision):
        seen = [each.model.name for each in (*outcome.tries, *outcome.rejected)]
        assert sorted(seen) == names
        assert all(each.rejected for each in outcome.rejected)
        assert outcome.chosen.model.name in outcome.explanation
    else:
        assert outcome.reason is Reason.NO_ELIGIBLE_MODEL
        assert sorted(outcome.metadata) == [f"rejected.{name}" for name in names]
        assert all(outcome.metadata.values())


@settings(deadline=None)
@given(catalogues(), requests())
def test_no_cheaper_model_of_the_same_or_a_higher_quality_is_passed_over(
    catalogue: Catalogue, request: Request
) -> None:
    outcome = outcome_of(catalogue, request)
    if isinstance(outcome, StepwireError):
        return
    chosen = outcome.chosen
    # When all miss an estimated need, the nearest is taken, whatever it costs.
    level = chosen.model.quality
    as_good = [each for each in outcome.tries if each.model.quality >= level]
    assert chosen.cost_micro_usd == min(each.cost_micro_usd for each in as_good)


@settings(deadline=None)
@given(catalogues(), requests())
def test_the_same_request_gets_the_same_decision(catalogue: Catalogue, request: Request) -> None:
    first, second = outcome_of(catalogue, request), outcome_of(catalogue, request)
    assert isinstance(first, StepwireError) or first == second
    assert str(first) == str(second)
