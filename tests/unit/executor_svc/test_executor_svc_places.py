"""Concurrency keys."""

import pytest

from executor_svc.engine.records import Blob, Place
from executor_svc.graphs.compile import GraphLimits, compile_graph
from executor_svc.tasks.places import place_of
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import Reason, StepwireError
from stepwire.payload import JSON

LIMITS = GraphLimits(max_steps=1000, max_bytes=2**20, queues=None)


def graph(key=None, **concurrency):
    message = graph_pb2.Graph(steps=[graph_pb2.Step(name="a", transform={"expression": "1"})])
    if key is not None:
        message.concurrency.CopyFrom(graph_pb2.Concurrency(key=key, **concurrency))
    return compile_graph(message, limits=LIMITS)


def place(key, value=b"null", **concurrency):
    return place_of(graph(key, **concurrency), Blob(value, JSON), field="input")


def test_a_graph_without_a_key_needs_no_place():
    assert place(None) is None


def test_the_key_is_made_of_the_input():
    queue, in_progress = (
        graph_pb2.CONCURRENCY_POLICY_QUEUE,
        graph_pb2.CONCURRENCY_POLICY_CANCEL_IN_PROGRESS,
    )
    assert place("'user ' + input.user", b'{"user":"ada"}') == Place("user ada", 1, queue)
    assert place("'x'", max_running=7, policy=in_progress) == Place("x", 7, in_progress)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input.user", b"{}"),
        ("input", b"1"),
        ("input", b'""'),
        ("input", b'"' + b"x" * 201 + b'"'),
        ("input", b'"\\u0000"'),
        ("[input]", b'"x"'),
    ],
)
def test_an_input_that_gives_no_key_is_refused(key, value):
    with pytest.raises(StepwireError) as caught:
        place(key, value)
    assert caught.value.reason == Reason.FIELD_INVALID
    assert [fault.field for fault in caught.value.faults] == ["input"]


def test_the_longest_key():
    found = place("input", b'"' + b"x" * 200 + b'"')
    assert found is not None
    assert len(found.key) == 200
