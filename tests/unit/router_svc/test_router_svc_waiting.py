"""Retry-After, and the rest that a failing model is given."""

from datetime import UTC, datetime, timedelta

import pytest

from router_svc.breakers.cooldowns import (
    FAILURES_BEFORE_REST,
    FIRST_REST,
    LONGEST_REST,
    Cooldowns,
)
from router_svc.generate.ports import FailureKind, ProviderFailure
from router_svc.providers.retry_after import read_retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
FAILURE = ProviderFailure(FailureKind.UNAVAILABLE, "it broke", status="503")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 -0000"}, 30),
        ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, 86_400),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert read_retry_after(headers, now=NOW) == expected


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def rest_of(cooldowns: Cooldowns, model: str) -> ProviderFailure | None:
    try:
        cooldowns.check(model)
    except ProviderFailure as failure:
        assert model in cooldowns.resting()
        return failure
    assert model not in cooldowns.resting()
    return None


def test_a_model_rests_after_failures_in_a_row() -> None:
    cooldowns = Cooldowns(clock := Clock())
    for _ in range(FAILURES_BEFORE_REST - 1):
        cooldowns.failed("m", FAILURE)
        assert rest_of(cooldowns, "m") is None
    cooldowns.failed("m", FAILURE)
    failure = rest_of(cooldowns, "m")
    assert failure is not None
    assert failure.retry_after == FIRST_REST
    assert failure.message == "left to rest for another 5 s after: it broke"
    assert rest_of(cooldowns, "other") is None
    clock.now += FIRST_REST.total_seconds()
    assert rest_of(cooldowns, "m") is None


def test_a_success_between_failures_starts_the_count_again() -> None:
    cooldowns = Cooldowns(Clock())
    for _ in range(2 * FAILURES_BEFORE_REST):
        cooldowns.failed("m", FAILURE)
        cooldowns.succeeded("m")
    assert rest_of(cooldowns, "m") is None


def test_rests_grow_up_to_a_limit() -> None:
    cooldowns = Cooldowns(clock := Clock())
    rests = []
    for _ in range(FAILURES_BEFORE_REST + 40):
        cooldowns.failed("m", FAILURE)
        failure = rest_of(cooldowns, "m")
        if failure is not None and failure.retry_after is not None:
            rests.append(failure.retry_after)
            clock.now += LONGEST_REST.total_seconds()
    assert rests[:3] == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST]
    assert rests[-1] == LONGEST_REST


def test_a_provider_that_names_a_time_is_left_alone_at_once() -> None:
    cooldowns = Cooldowns(Clock())
    cooldowns.failed(
        "m",
        ProviderFailure(FailureKind.UNAVAILABLE, "busy", retry_after=timedelta(seconds=30)),
    )
    failure = rest_of(cooldowns, "m")
    assert failure is not None
    assert failure.retry_after == timedelta(seconds=30)


def test_a_day_is_not_waited_for() -> None:
    cooldowns = Cooldowns(Clock())
    cooldowns.failed(
        "m", ProviderFailure(FailureKind.UNAVAILABLE, "busy", retry_after=timedelta(days=1))
    )
    failure = rest_of(cooldowns, "m")
    assert failure is not None
    assert failure.retry_after == LONGEST_REST


def test_a_rest_is_of_the_kind_of_its_cause() -> None:
    cooldowns = Cooldowns(Clock())
    for _ in range(FAILURES_BEFORE_REST):
        cooldowns.failed("m", ProviderFailure(FailureKind.MISCONFIGURED, "bad key", status="401"))
    failure = rest_of(cooldowns, "m")
    assert failure is not None
    assert (failure.kind, failure.status) == (FailureKind.MISCONFIGURED, "401")
