"""How steps and graphs behave: retries, joins, bounds, and what undoes a step.

What the fields and their limits mean is said in `stepwire/api/executor/v1/graph.proto`; what
is left out is the server's default.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypedDict, Unpack

from google.protobuf.struct_pb2 import Struct

from stepwire.api.executor.v1 import graph_pb2 as pb
from stepwire.payload import json_to_struct
from stepwire.sdk.values import to_duration

ANY: Final = pb.JoinPolicy(mode=pb.JOIN_MODE_ANY)
"""A join that starts as soon as one of the steps has succeeded."""

ALL_DONE: Final = pb.JoinPolicy(mode=pb.JOIN_MODE_ALL_DONE)
"""A join that starts when all of the steps have ended, whatever the outcome."""


def at_least(count: int) -> pb.JoinPolicy:
    """A join that starts as soon as `count` of the steps have succeeded."""
    return pb.JoinPolicy(mode=pb.JOIN_MODE_AT_LEAST, at_least=count)


def retry_policy(
    *,
    max_attempts: int = 0,
    initial_backoff: timedelta | None = None,
    max_backoff: timedelta | None = None,
    multiplier: float = 0,
    jitter: float | None = None,
    non_retryable_reasons: Sequence[str] = (),
) -> pb.RetryPolicy:
    """Says which failed attempts are tried again, and when."""
    return pb.RetryPolicy(
        max_attempts=max_attempts,
        initial_backoff=to_duration(initial_backoff),
        max_backoff=to_duration(max_backoff),
        multiplier=multiplier,
        jitter=jitter,
        non_retryable_reasons=non_retryable_reasons,
    )


def limit(
    key: str, *, max_running: int = 0, max_starts: int = 0, period: timedelta | None = None
) -> pb.Limit:
    """Bounds the attempts of all steps whose `key`, a CEL expression, gives the same text.

    Args:
        key: The expression; a fixed key is a text in quotes, such as `"'openai'"`.
        max_running: How many may run at once.
        max_starts: How many may start per `period`.
        period: The span for `max_starts`; one second by default.
    """
    return pb.Limit(
        key=key, max_running=max_running, max_starts=max_starts, period=to_duration(period)
    )


def concurrency(
    key: str,
    *,
    max_running: int = 1,
    policy: "pb.ConcurrencyPolicy.ValueType" = pb.CONCURRENCY_POLICY_QUEUE,
) -> pb.Concurrency:
    """Bounds the tasks that run at once and whose `key`, a CEL expression, gives the same text."""
    return pb.Concurrency(key=key, max_running=max_running, policy=policy)


class CompensationOptions(TypedDict, total=False):
    """What every kind of compensation takes.

    Attributes:
        input: CEL expression for its input, which sees the step's own output as `output`.
        queue: Queue in which it waits; the step's by default.
        retry: What happens when an attempt fails; see `retry_policy`.
        timeout: How long one attempt may run.
    """

    input: str
    queue: str
    retry: pb.RetryPolicy
    timeout: timedelta


def undo_python(function: str, **options: Unpack[CompensationOptions]) -> pb.Compensation:
    """Undoes a step by calling a registered Python function, with the step's output."""
    return _compensation(options, python=pb.PythonStep(function=function))


def undo_http(
    url: str,
    *,
    method: str = "",
    headers: Mapping[str, str] | None = None,
    **options: Unpack[CompensationOptions],
) -> pb.Compensation:
    """Undoes a step by calling an HTTP API, with the step's output as the body."""
    return _compensation(options, http=http_step(url, method, headers))


def http_step(url: str, method: str, headers: Mapping[str, str] | None) -> pb.HttpStep:
    """Writes a call of an HTTP API."""
    kind = pb.HttpStep(method=method, url=url)
    if headers:
        struct = Struct()
        json_to_struct(dict(headers), struct)
        kind.headers.CopyFrom(struct)
    return kind


def _compensation(options: CompensationOptions, **kind: Any) -> pb.Compensation:
    return pb.Compensation(
        input=options.get("input", ""),
        queue=options.get("queue", ""),
        retry=options.get("retry"),
        timeout=to_duration(options.get("timeout")),
        **kind,
    )
