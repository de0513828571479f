"""Writes graphs of steps in Python.

Each function makes one step; `graph` puts them together. A step that depends on others names
them, or is given them:

    split = python("split", function="text.split")
    passages = embed("passages", depends_on=[split], for_each="steps.split.batches", input="item")
    graph(split, passages, timeout=timedelta(hours=1))

How steps retry, join, are bounded and undone is made by `stepwire.sdk.policies`. The builders
check nothing: the executor does, in one place for every language. What the fields and their
limits mean is said in `stepwire/api/executor/v1/graph.proto`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypedDict, Unpack

from google.protobuf.struct_pb2 import Value

from stepwire.api.executor.v1 import graph_pb2 as pb
from stepwire.api.router.v1.requirements_pb2 import CacheControl
from stepwire.payload import json_to_value
from stepwire.sdk.policies import http_step, retry_policy
from stepwire.sdk.values import to_duration

__all__ = [
    "StepOptions",
    "embed",
    "graph",
    "http",
    "model",
    "python",
    "retry_policy",
    "search",
    "sleep",
    "subtask",
    "transform",
    "upsert",
    "wait_signal",
    "workflow",
]

FAIL: Final = object()
"""Instead of a signal's default: the step fails when the time is up."""


class StepOptions(TypedDict, total=False):
    """What every kind of step takes.

    Attributes:
        depends_on: The steps, or their names, that must have ended before.
        join: Which of those must have succeeded; see `policies.ANY`, `at_least`, `ALL_DONE`.
        when: CEL expression for a truth value; where it is false the step is skipped.
        for_each: CEL expression for a list; the step runs once per item.
        max_parallel: Most items that run at once.
        items_join: Which of the items must succeed.
        input: CEL expression for the step's input.
        queue: Queue in which the step waits.
        priority: 1 (goes first) to 9.
        retry: What happens when an attempt fails; see `policies.retry_policy`.
        timeout: How long one attempt may run.
        schedule_to_close: How long the step may take with all its waits and attempts.
        heartbeat_timeout: Longest time between two heartbeats of a Python function.
        limited_by: What bounds its attempts in the whole cluster; see `policies.limit`.
        compensation: What undoes it; see `policies.undo_python`, `undo_http`.
    """

    depends_on: Sequence[str | pb.Step]
    join: pb.JoinPolicy
    when: str
    for_each: str
    max_parallel: int
    items_join: pb.JoinPolicy
    input: str
    queue: str
    priority: int
    retry: pb.RetryPolicy
    timeout: timedelta
    schedule_to_close: timedelta
    heartbeat_timeout: timedelta
    limited_by: pb.Limit
    compensation: pb.Compensation


def graph(
    *steps: pb.Step, timeout: timedelta | None = None, concurrency: pb.Concurrency | None = None
) -> pb.Graph:
    """Puts steps together; their order does not matter.

    Args:
        *steps: The steps.
        timeout: Longest life of a task.
        concurrency: How many tasks may run at once; see `policies.concurrency`.
    """
    return pb.Graph(steps=steps, timeout=to_duration(timeout), concurrency=concurrency)


def workflow(name: str, version: str = "") -> pb.WorkflowRef:
    """Names a registered workflow; without a version, the newest one at the time of use."""
    return pb.WorkflowRef(name=name, version=version)


def python(name: str, *, function: str, **options: Unpack[StepOptions]) -> pb.Step:
    """Calls a registered Python function with the step's input."""
    return _step(name, options, python=pb.PythonStep(function=function))


def transform(name: str, *, expression: str, **options: Unpack[StepOptions]) -> pb.Step:
    """Evaluates a CEL expression, in which `value` is the step's input."""
    return _step(name, options, transform=pb.TransformStep(expression=expression))


def embed(name: str, *, model: str = "", **options: Unpack[StepOptions]) -> pb.Step:
    """Turns a text or a list of texts into vectors."""
    return _step(name, options, embed=pb.EmbedStep(model=model))


def upsert(name: str, *, collection: str, **options: Unpack[StepOptions]) -> pb.Step:
    """Writes a list of points into a collection."""
    return _step(name, options, upsert=pb.UpsertStep(collection=collection))


def search(
    name: str, *, collection: str, limit: int = 0, **options: Unpack[StepOptions]
) -> pb.Step:
    """Finds the points nearest to a vector."""
    return _step(name, options, search=pb.SearchStep(collection=collection, limit=limit))


def model(
    name: str,
    *,
    model: str = "",
    max_output_tokens: int = 0,
    temperature: float | None = None,
    min_quality: float = 0.0,
    project: str = "",
    cache: CacheControl | None = None,
    json_schema: Mapping[str, Any] | None = None,
    **options: Unpack[StepOptions],
) -> pb.Step:
    """Generates text from a prompt, messages or documents; JSON that keeps a schema, if given."""
    kind = pb.ModelStep(
        model=model,
        max_output_tokens=max_output_tokens,
        temperature=temperature,
        min_quality=min_quality,
        project=project,
        cache=cache,
    )
    if json_schema is not None:
        kind.json_schema.schema.update(json_schema)
    return _step(name, options, model=kind)


def http(
    name: str,
    *,
    url: str,
    method: str = "",
    headers: Mapping[str, str] | None = None,
    **options: Unpack[StepOptions],
) -> pb.Step:
    """Calls an HTTP API with the step's input as the body."""
    return _step(name, options, http=http_step(url, method, headers))


def sleep(
    name: str,
    *,
    duration: timedelta | None = None,
    until: str = "",
    **options: Unpack[StepOptions],
) -> pb.Step:
    """Waits without holding a worker; its output is its input.

    Args:
        name: The step's name.
        duration: How long.
        until: Instead, a CEL expression for a number of seconds or an RFC 3339 text.
        **options: See `StepOptions`.
    """
    return _step(name, options, sleep=pb.SleepStep(duration=to_duration(duration), until=until))


def wait_signal(
    name: str,
    *,
    signal: str = "",
    wait: timedelta | None = None,
    default: Any = FAIL,
    **options: Unpack[StepOptions],
) -> pb.Step:
    """Waits for a signal without holding a worker; its output is the signal's payload.

    Args:
        name: The step's name.
        signal: Name of the signal; by default the step's.
        wait: How long to wait; 30 days by default.
        default: The output when the time is up: any JSON value. By default the step fails.
        **options: See `StepOptions`.
    """
    kind = pb.WaitSignalStep(name=signal or name, timeout=to_duration(wait))
    if default is not FAIL:
        value = Value()
        json_to_value(default, value)
        kind.default.CopyFrom(value)
    return _step(name, options, wait_signal=kind)


def subtask(
    name: str, *, runs: pb.Graph | pb.WorkflowRef | str, **options: Unpack[StepOptions]
) -> pb.Step:
    """Runs a graph or a workflow as a task of its own, with the step's input.

    Args:
        name: The step's name.
        runs: The graph, or the workflow: see `workflow`; its name alone means the newest
            version.
        **options: See `StepOptions`.
    """
    if isinstance(runs, pb.Graph):
        return _step(name, options, subtask=pb.SubtaskStep(graph=runs))
    ref = workflow(runs) if isinstance(runs, str) else runs
    return _step(name, options, subtask=pb.SubtaskStep(workflow=ref))


def _step(name: str, options: StepOptions, **kind: Any) -> pb.Step:
    """Makes a step of a kind, given as the field of the `kind` oneof."""
    fields: dict[str, Any] = dict(options)
    fields["depends_on"] = [
        each.name if isinstance(each, pb.Step) else each for each in options.get("depends_on", ())
    ]
    fields["limit"] = fields.pop("limited_by", None)
    for span in ("timeout", "schedule_to_close", "heartbeat_timeout"):
        fields[span] = to_duration(fields.get(span))
    return pb.Step(name=name, **fields, **kind)
