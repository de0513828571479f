"""Writes graphs of steps in Python.

Each function makes one step; `graph` puts them together:

    graph(
        python("split", function="text.split"),
        embed("embed", depends_on=["split"], for_each="steps.split.batches", input="item.texts"),
    )

The builders check nothing: the executor does, in one place for every language. What the
fields and their limits mean is said in `stepwire/api/executor/v1/graph.proto`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict, Unpack

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from stepwire.api.executor.v1 import graph_pb2 as pb
from stepwire.payload import json_to_struct


class StepOptions(TypedDict, total=False):
    """What every kind of step takes.

    Attributes:
        depends_on: Names of the steps that must have succeeded before.
        for_each: CEL expression for a list; the step runs once per item.
        input: CEL expression for the step's input.
        queue: Queue in which the step waits.
        retry: What happens when an attempt fails; see `retry_policy`.
        timeout: How long one attempt may run.
    """

    depends_on: Sequence[str]
    for_each: str
    input: str
    queue: str
    retry: pb.RetryPolicy
    timeout: timedelta


def graph(*steps: pb.Step) -> pb.Graph:
    """Puts steps together; their order does not matter."""
    return pb.Graph(steps=steps)


def retry_policy(
    *,
    max_attempts: int = 0,
    initial_backoff: timedelta | None = None,
    max_backoff: timedelta | None = None,
    multiplier: float = 0,
) -> pb.RetryPolicy:
    """Says which failed attempts are tried again; what is left out is the server's default."""
    return pb.RetryPolicy(
        max_attempts=max_attempts,
        initial_backoff=_duration(initial_backoff),
        max_backoff=_duration(max_backoff),
        multiplier=multiplier,
    )


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
    **options: Unpack[StepOptions],
) -> pb.Step:
    """Generates text from a prompt, messages or documents."""
    kind = pb.ModelStep(model=model, max_output_tokens=max_output_tokens, temperature=temperature)
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
    kind = pb.HttpStep(method=method, url=url)
    if headers:
        struct = Struct()
        json_to_struct(dict(headers), struct)
        kind.headers.CopyFrom(struct)
    return _step(name, options, http=kind)


def _step(name: str, options: StepOptions, **kind: Any) -> pb.Step:
    """Makes a step of a kind, given as the field of the `kind` oneof."""
    return pb.Step(
        name=name,
        depends_on=options.get("depends_on", ()),
        for_each=options.get("for_each", ""),
        input=options.get("input", ""),
        queue=options.get("queue", ""),
        retry=options.get("retry"),
        timeout=_duration(options.get("timeout")),
        **kind,
    )


def _duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration
