"""Which model is tried next, over any history of failures."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router_svc.catalogue.models import Model
from router_svc.decide.records import Candidate
from router_svc.generate.chains import CHAINS, Onward
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.records import FailedTry
from router_svc.generate.route import RetryRules, Route

RULES = RetryRules(max_attempts=5, patience_seconds=0.5, longest_wait_seconds=20)


def candidate(name: str, *, endpoints: int = 1, **fields: Any) -> Candidate:
    places = [
        {"name": f"e{place}", "base_url": f"http://{name}-{place}"} for place in range(endpoints)
    ]
    model = Model.model_validate(
        {
            "name": name,
            "provider": {"kind": "openai", "model": "m", "endpoints": places},
            "context_window": 8_000,
            "max_output_tokens": 500,
            "quality": 0.5,
            "prices": [{"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 1}],
            **fields,
        }
    )
    return Candidate(
        model=model,
        price=model.prices[0],
        quality=0.5,
        input_tokens=10,
        exact=True,
        cost_micro_usd=1,
        worst_cost_micro_usd=model.context_window,
    )


@dataclass
class Failing:
    kind: FailureKind
    retry_after: float | None
    called: bool


FAILURES = st.builds(
    Failing,
    kind=st.sampled_from(FailureKind),
    retry_after=st.none() | st.floats(0.01, 60),
    called=st.booleans(),
)
CANDIDATES = st.lists(
    st.tuples(
        st.sampled_from(["small", "balanced", "large"]), st.integers(1, 3), st.integers(1, 4)
    ),
    min_size=1,
    max_size=5,
)


@given(CANDIDATES, st.lists(FAILURES, min_size=30, max_size=30))
def test_attempts_and_waits_are_bounded_and_chains_are_kept(
    shapes: list[tuple[str, int, int]], failures: list[Failing]
) -> None:
    tries = [
        candidate(f"m{place}", tier=tier, endpoints=count, context_window=window * 1_000)
        for place, (tier, count, window) in enumerate(shapes)
    ]
    route, now, tried = Route(tries, RULES), 0.0, []
    failures = list(failures)
    while (step := route.next(now=now)) is not None:
        assert 0 <= step.wait_seconds <= RULES.longest_wait_seconds
        now += step.wait_seconds
        failing = failures.pop()
        model = step.candidate.model
        for earlier in tried:
            chain = CHAINS[earlier.failure.kind]
            assert chain.onward is not Onward.NONE
            if chain.onward is Onward.WIDER:
                assert model.context_window >= earlier.candidate.model.context_window
                assert model.name != earlier.name
            if chain.onward is Onward.ELSEWHERE:
                assert model.name != earlier.name
        fresh = [each for each in model.endpoints if each.name not in step.avoid]
        endpoint = (fresh or model.endpoints)[0].name if failing.called else ""
        wait = None if failing.retry_after is None else timedelta(seconds=failing.retry_after)
        failure = ProviderFailure(failing.kind, "no", retry_after=wait, called=failing.called)
        if failing.called:
            route.called()
        tried.append(FailedTry(step.candidate, endpoint, failure))
        route.failed(tried[-1], now=now)
    assert sum(each.failure.called for each in tried) <= RULES.max_attempts
    for each in tries:
        own = [failed for failed in tried if failed.name == each.model.name]
        assert len(own) <= 1 + max((CHAINS[failed.failure.kind].again for failed in own), default=0)


def test_a_short_wait_is_spent_on_the_same_model_and_a_long_one_is_not() -> None:
    first, second = candidate("first"), candidate("second")
    for seconds, wanted in ((0.2, "first"), (3.0, "second")):
        route = Route([first, second], RULES)
        failure = ProviderFailure(
            FailureKind.RATE_LIMITED, "slow", retry_after=timedelta(seconds=seconds)
        )
        route.failed(FailedTry(first, "e0", failure), now=0.0)
        step = route.next(now=0.0)
        assert step is not None
        assert step.candidate.model.name == wanted


def test_another_key_is_tried_at_once_and_the_same_never_again() -> None:
    only = candidate("only", endpoints=2)
    route = Route([only], RULES)
    poor = ProviderFailure(FailureKind.NO_CREDIT, "poor")
    route.failed(FailedTry(only, "e0", poor), now=0.0)
    step = route.next(now=0.0)
    assert step is not None
    assert (step.wait_seconds, step.avoid) == (0.0, ("e0",))
    route.failed(FailedTry(only, "e1", poor), now=0.0)
    assert route.next(now=0.0) is None


def test_a_model_whose_places_all_rest_is_not_asked_again() -> None:
    only = candidate("only", endpoints=2)
    route = Route([only], RULES)
    resting = ProviderFailure(FailureKind.NO_CREDIT, "left to rest", called=False)
    route.failed(FailedTry(only, "", resting), now=0.0)
    assert route.next(now=0.0) is None
