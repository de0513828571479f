"""Which failed attempts are tried again, and after what time. Pure."""

import random
from dataclasses import dataclass
from datetime import timedelta

from executor_svc.graphs.durations import span_of
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import field_invalid

DEFAULT_MAX_ATTEMPTS = 3
MAX_ATTEMPTS = 100
DEFAULT_INITIAL_BACKOFF = timedelta(milliseconds=500)
DEFAULT_MAX_BACKOFF = timedelta(seconds=30)
DEFAULT_MULTIPLIER = 2.0
DEFAULT_JITTER = 0.5
MAX_REASONS = 50
MAX_REASON_CHARACTERS = 200
LONGEST_BACKOFF = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """See `RetryPolicy` in protos/stepwire/api/executor/v1/graph.proto."""

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    initial_backoff: timedelta = DEFAULT_INITIAL_BACKOFF
    max_backoff: timedelta = DEFAULT_MAX_BACKOFF
    multiplier: float = DEFAULT_MULTIPLIER
    jitter: float = DEFAULT_JITTER
    non_retryable_reasons: frozenset[str] = frozenset()

    def backoff(self, *, failures: int, rng: random.Random) -> timedelta | None:
        """Return how long to wait after the `failures`-th failure, or None to give up.

        A random part of the policy's span is taken off, so that steps that failed together
        do not come back together.
        """
        if failures >= self.max_attempts:
            return None
        try:
            span = self.initial_backoff * self.multiplier ** (failures - 1)
        except OverflowError:
            span = self.max_backoff
        return min(span, self.max_backoff) * rng.uniform(1.0 - self.jitter, 1.0)


def compile_retry(policy: graph_pb2.RetryPolicy, *, field: str) -> RetryPolicy:
    """Read a policy of a request, with its defaults filled in.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    if not 0 <= policy.max_attempts <= MAX_ATTEMPTS:
        raise field_invalid(f"{field}.max_attempts", f"must be from 0 to {MAX_ATTEMPTS}")
    if policy.multiplier and not 1 <= policy.multiplier <= 100:  # noqa: PLR2004 - said in the message
        raise field_invalid(f"{field}.multiplier", "must be 0, or from 1 to 100")
    initial = _span(policy, "initial_backoff", field) or DEFAULT_INITIAL_BACKOFF
    longest = _span(policy, "max_backoff", field) or max(DEFAULT_MAX_BACKOFF, initial)
    if longest < initial:
        raise field_invalid(f"{field}.max_backoff", "must not be shorter than initial_backoff")
    jitter = policy.jitter if policy.HasField("jitter") else DEFAULT_JITTER
    if not 0 <= jitter <= 1:
        raise field_invalid(f"{field}.jitter", "must be from 0 to 1")
    reasons = policy.non_retryable_reasons
    if len(reasons) > MAX_REASONS:
        raise field_invalid(
            f"{field}.non_retryable_reasons", f"must have at most {MAX_REASONS} entries"
        )
    if any(not 1 <= len(reason) <= MAX_REASON_CHARACTERS for reason in reasons):
        raise field_invalid(
            f"{field}.non_retryable_reasons",
            f"each must have 1 to {MAX_REASON_CHARACTERS} characters",
        )
    return RetryPolicy(
        jitter=jitter,
        non_retryable_reasons=frozenset(reasons),
        max_attempts=policy.max_attempts or DEFAULT_MAX_ATTEMPTS,
        initial_backoff=initial,
        max_backoff=longest,
        multiplier=policy.multiplier or DEFAULT_MULTIPLIER,
    )


def _span(policy: graph_pb2.RetryPolicy, name: str, field: str) -> timedelta:
    span = span_of(getattr(policy, name), field=f"{field}.{name}")
    if not timedelta(0) <= span <= LONGEST_BACKOFF:
        raise field_invalid(f"{field}.{name}", f"must be from 0 to {LONGEST_BACKOFF.days} days")
    return span
