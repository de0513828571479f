"""One breaker as a state machine, and several before one call."""

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from router_svc.breakers.app import open_breakers
from router_svc.breakers.board import BreakerPermit, Breakers
from router_svc.breakers.records import (
    BreakerKey,
    BreakerRules,
    BreakerState,
    Cause,
    Opening,
    Scope,
)
from router_svc.catalogue.holder import Snapshot
from router_svc.catalogue.models import Catalogue
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.load import MIN_CALLS, Load
from router_svc.metrics import RouterMetrics
from router_svc.providers.pool import ProviderPool
from router_svc.settings import RouterSettings
from tests.unit.router_svc.router_builders import OPENAI, a_catalogue, a_model

PROVIDER = BreakerKey(Scope.PROVIDER, "http://somewhere")
KEY = BreakerKey(Scope.KEY, "KEY@http://somewhere")
MODEL = BreakerKey(Scope.MODEL, "small@default")
ALL = (PROVIDER, KEY, MODEL)
BROKE = ProviderFailure(FailureKind.SERVER, "it broke", status="503")
RULES = BreakerRules()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(RULES, clock)


def call(breakers: Breakers) -> BreakerPermit | None:
    if breakers.refusal(ALL) is not None:
        return None
    return breakers.permit(ALL, Load())


def fail(breakers: Breakers, failure: ProviderFailure = BROKE, *, times: int = 1) -> None:
    for _ in range(times):
        permit = call(breakers)
        assert permit is not None
        permit.failed(failure)


def open_ones(breakers: Breakers) -> list[str]:
    return [str(each.key) for each in breakers.all() if each.opening is not None]


def test_failures_in_a_row_open_it(breakers: Breakers) -> None:
    fail(breakers, times=RULES.failures - 1)
    assert call(breakers) is not None
    fail(breakers)
    refusal = breakers.refusal(ALL)
    assert refusal is not None
    assert (refusal.kind, refusal.status, refusal.called) == (FailureKind.SERVER, "503", False)
    assert refusal.retry_after == RULES.first_rest
    assert str(refusal) == "left to rest for another 5 s after: it broke"
    assert open_ones(breakers) == ["model:small@default"]


def test_a_success_between_begins_the_count_again(breakers: Breakers) -> None:
    for _ in range(3 * RULES.failures):
        fail(breakers)
        permit = call(breakers)
        assert permit is not None
        permit.succeeded(0.1)


def test_half_of_many_calls_open_it(breakers: Breakers) -> None:
    for _ in range(RULES.window):
        if (permit := call(breakers)) is None:
            break
        permit.failed(BROKE)
        if (permit := call(breakers)) is None:
            break
        permit.failed(BROKE)
        if (permit := call(breakers)) is None:
            break
        permit.succeeded(0.1)
    assert open_ones(breakers) == ["model:small@default"]


@pytest.mark.parametrize(
    ("failure", "opened"),
    [
        (ProviderFailure(FailureKind.NO_CREDIT, "poor"), "key"),
        (ProviderFailure(FailureKind.MISCONFIGURED, "bad key", status="401"), "key"),
        (ProviderFailure(FailureKind.MISCONFIGURED, "no such model", status="404"), "model"),
        (
            ProviderFailure(FailureKind.RATE_LIMITED, "slow", retry_after=timedelta(seconds=30)),
            "model",
        ),
    ],
)
def test_some_failures_open_one_at_once(
    breakers: Breakers, failure: ProviderFailure, opened: str
) -> None:
    fail(breakers, failure)
    (name,) = open_ones(breakers)
    assert name.startswith(f"{opened}:")


def test_what_cannot_be_reached_opens_the_provider(breakers: Breakers) -> None:
    fail(breakers, ProviderFailure(FailureKind.NETWORK, "refused"), times=RULES.failures)
    assert open_ones(breakers) == ["provider:http://somewhere"]


@pytest.mark.parametrize(
    "kind", [FailureKind.BAD_REQUEST, FailureKind.CONTEXT_TOO_LONG, FailureKind.CONTENT_FILTERED]
)
def test_bad_requests_open_nothing(breakers: Breakers, kind: FailureKind) -> None:
    fail(breakers, ProviderFailure(kind, "no"), times=50)
    assert not open_ones(breakers)


def test_a_single_probe_decides(breakers: Breakers, clock: Clock) -> None:
    fail(breakers, times=RULES.failures)
    clock.now += RULES.first_rest.total_seconds()
    probe = call(breakers)
    assert probe is not None
    assert breakers.get(MODEL).state(clock()) is BreakerState.HALF_OPEN
    assert call(breakers) is None
    probe.released()
    second = call(breakers)
    assert second is not None
    second.succeeded(0.1)
    assert not open_ones(breakers)
    assert call(breakers) is not None


def test_rests_double_up_to_a_limit(breakers: Breakers, clock: Clock) -> None:
    fail(breakers, times=RULES.failures)
    rests = []
    for _ in range(20):
        rest = breakers.get(MODEL).rest(clock())
        assert rest is not None
        rests.append(rest)
        clock.now += rest.total_seconds()
        fail(breakers)
    assert rests[:3] == [RULES.first_rest, 2 * RULES.first_rest, 4 * RULES.first_rest]
    assert rests[-1] == RULES.longest_rest


def test_without_credit_the_rest_is_long(breakers: Breakers, clock: Clock) -> None:
    fail(breakers, ProviderFailure(FailureKind.NO_CREDIT, "poor"))
    assert breakers.get(KEY).rest(clock()) == RULES.credit_rest
    clock.now += RULES.credit_rest.total_seconds()
    fail(breakers, ProviderFailure(FailureKind.NO_CREDIT, "poor"))
    assert breakers.get(KEY).rest(clock()) == 2 * RULES.credit_rest


def test_a_late_success_closes_nothing(breakers: Breakers) -> None:
    late = call(breakers)
    assert late is not None
    fail(breakers, times=RULES.failures)
    late.succeeded(9.0)
    assert open_ones(breakers) == ["model:small@default"]


def test_what_is_opened_by_hand_stays_so(breakers: Breakers, clock: Clock) -> None:
    begun = call(breakers)
    cause = Cause(FailureKind.SERVER, "maintenance")
    breakers.put(breakers.get(PROVIDER), Opening(None, cause, forced=True))
    clock.now += 1e9
    assert begun is not None
    begun.succeeded(0.1)
    refusal = breakers.refusal(ALL)
    assert refusal is not None
    assert refusal.retry_after is None
    breakers.put(breakers.get(PROVIDER), None)
    assert call(breakers) is not None


def test_what_is_opened_by_hand_for_a_time_closes_by_a_probe_after_it(
    breakers: Breakers, clock: Clock
) -> None:
    late = call(breakers)
    cause = Cause(FailureKind.SERVER, "maintenance")
    breakers.put(breakers.get(MODEL), Opening(clock.now + 60, cause, forced=True))
    assert late is not None
    late.succeeded(0.1)
    assert call(breakers) is None
    clock.now += 60
    fail(breakers)
    again = breakers.get(MODEL).opening
    assert again is not None
    assert not again.forced
    assert again.cause.message == "it broke"
    clock.now += RULES.longest_rest.total_seconds()
    probe = call(breakers)
    assert probe is not None
    probe.succeeded(0.1)
    assert not open_ones(breakers)


@pytest.mark.parametrize(
    ("opened", "told"),
    [
        (MODEL, ProviderFailure(FailureKind.NETWORK, "refused")),
        (KEY, ProviderFailure(FailureKind.NETWORK, "refused")),
        (KEY, ProviderFailure(FailureKind.TIMEOUT, "slow")),
        (MODEL, ProviderFailure(FailureKind.NO_CREDIT, "poor")),
        (MODEL, ProviderFailure(FailureKind.MISCONFIGURED, "bad key", status="401")),
        (MODEL, ProviderFailure(FailureKind.UNFIT, "not for it", called=False)),
    ],
)
def test_a_probe_that_did_not_get_as_far_closes_nothing(
    breakers: Breakers, clock: Clock, opened: BreakerKey, told: ProviderFailure
) -> None:
    breakers.put(breakers.get(opened), Opening(clock.now + 5, Cause(FailureKind.SERVER, "")))
    clock.now += 5
    fail(breakers, told)
    assert str(opened) in open_ones(breakers)
    assert breakers.get(opened).lets_through(clock())


@pytest.mark.parametrize("answered", [True, False])
def test_a_probe_begun_before_a_reset_is_a_call_like_others(
    breakers: Breakers, clock: Clock, *, answered: bool
) -> None:
    fail(breakers, times=RULES.failures)
    clock.now += RULES.first_rest.total_seconds()
    late = call(breakers)
    assert late is not None
    breakers.put(breakers.get(MODEL), None)
    if answered:
        late.succeeded(0.1)
    else:
        late.failed(BROKE)
    assert not open_ones(breakers)
    while not open_ones(breakers):
        fail(breakers)
    clock.now += RULES.first_rest.total_seconds()
    assert call(breakers) is not None


def test_a_probe_that_is_refused_by_what_stands_behind_closes_what_it_passed(
    breakers: Breakers, clock: Clock
) -> None:
    for key in (PROVIDER, KEY):
        breakers.put(breakers.get(key), Opening(clock.now + 5, Cause(FailureKind.NETWORK, "")))
    clock.now += 5
    fail(breakers, ProviderFailure(FailureKind.SERVER, "it broke", status="500"))
    assert not open_ones(breakers)


Step = tuple[str, float]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "succeed", "fail", "limit", "network", "give up"]),
            st.floats(0, 200),
        ),
        max_size=60,
    )
)
def test_an_open_breaker_lets_nothing_through_but_one_probe(steps: list[Step]) -> None:
    clock = Clock()
    breakers = Breakers(RULES, clock)
    failures = {
        "fail": BROKE,
        "limit": ProviderFailure(
            FailureKind.RATE_LIMITED, "slow", retry_after=timedelta(seconds=20)
        ),
        "network": ProviderFailure(FailureKind.NETWORK, "refused"),
    }
    under_way: list[tuple[BreakerPermit, bool]] = []
    for what, seconds in steps:
        clock.now += seconds
        if what == "begin":
            opened = [each for each in map(breakers.get, ALL) if each.opening is not None]
            permit = call(breakers)
            if permit is None:
                continue
            for each in opened:
                assert each.opening is not None
                assert each.opening.until is not None
                assert clock.now >= each.opening.until
            # While a probe is under way, nothing else gets through.
            if opened:
                assert call(breakers) is None
            under_way.append((permit, bool(opened)))
        elif under_way:
            permit, _ = under_way.pop()
            if what == "succeed":
                permit.succeeded(0.1)
            elif what == "give up":
                permit.released()
            else:
                permit.failed(failures[what])


def test_load_follows_what_calls_take() -> None:
    load = Load()
    for index in range(MIN_CALLS * 40):
        load.begin()
        assert load.in_flight == 1
        load.end(1.0 if index % 10 == 0 else 0.1)
    assert load.in_flight == 0
    assert load.p95_seconds is not None
    # One in ten takes a second, so that the 95th percentile is there.
    assert 0.5 < load.p95_seconds < 1.3


def test_a_call_that_has_begun_gets_no_other_model_by_the_same_name() -> None:
    def change(catalogue: Catalogue) -> None:
        pool.use(Snapshot(catalogue, {}, "v"))

    def none(_: Any) -> Any:
        raise AssertionError("no model of model_svc")

    pool = ProviderPool(Breakers(RULES, lambda: 0.0), none, random=Random(1))
    begun = a_model("small")
    change(a_catalogue(begun))
    # The same model, better thought of.
    change(a_catalogue(a_model("small", quality=0.9)))
    assert pool.take(begun)[0].endpoint == "default"
    change(a_catalogue(a_model("small", provider=OPENAI | {"model": "dearer"})))
    with pytest.raises(ProviderFailure) as caught:
        pool.take(begun)
    assert (caught.value.kind, caught.value.called) == (FailureKind.MISCONFIGURED, False)


def test_metrics_show_which_breakers_are_open() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    breakers = open_breakers(RouterSettings(), RouterMetrics(provider.get_meter("test")))
    breakers.keep([MODEL, KEY])
    breaker = breakers.get(MODEL)
    breaker.put(Opening(None, Cause(FailureKind.SERVER, "it broke")))
    data = reader.get_metrics_data()
    assert data is not None
    shown = {
        (point.attributes or {})["stepwire.router.breaker"]: point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "stepwire.router.breaker.open"
        for point in metric.data.data_points
    }
    assert shown == {str(MODEL): 1, str(KEY): 0}
    provider.shutdown()
