"""Backoff."""

import random
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from executor_svc.graphs.retry import RetryPolicy, compile_retry
from stepwire.api.executor.v1 import graph_pb2

SPANS = st.timedeltas(timedelta(milliseconds=1), timedelta(days=7))
POLICIES = st.builds(
    lambda attempts, one, other, multiplier: RetryPolicy(
        attempts, min(one, other), max(one, other), multiplier
    ),
    st.integers(1, 100),
    SPANS,
    SPANS,
    st.floats(1, 100),
)


@given(POLICIES, st.integers(1, 200), st.integers())
def test_a_wait_is_in_the_upper_half_of_its_span(policy, failures, seed):
    wait = policy.backoff(failures=failures, rng=random.Random(seed))
    if failures >= policy.max_attempts:
        assert wait is None
        return
    try:
        full = min(policy.initial_backoff * policy.multiplier ** (failures - 1), policy.max_backoff)
    except OverflowError:
        full = policy.max_backoff
    tolerance = timedelta(microseconds=1)
    assert full / 2 - tolerance <= wait <= full + tolerance


@given(POLICIES)
def test_the_number_of_attempts_is_the_policy_s(policy):
    rng = random.Random(0)
    failures = 1
    while policy.backoff(failures=failures, rng=rng) is not None:
        failures += 1
    assert failures == policy.max_attempts


@given(st.integers(1, 100), st.integers(1, 604_800_000), st.floats(1, 100))
def test_a_policy_keeps_what_it_was_given(attempts, milliseconds, multiplier):
    message = graph_pb2.RetryPolicy(max_attempts=attempts, multiplier=multiplier)
    message.initial_backoff.FromMilliseconds(milliseconds)
    policy = compile_retry(message, field="retry")
    assert policy.max_attempts == attempts
    assert policy.multiplier == multiplier
    assert policy.initial_backoff == timedelta(milliseconds=milliseconds)
    assert policy.max_backoff == max(timedelta(seconds=30), policy.initial_backoff)


def test_waits_differ():
    rng = random.Random(1)
    assert len({RetryPolicy().backoff(failures=1, rng=rng) for _ in range(10)}) == 10
