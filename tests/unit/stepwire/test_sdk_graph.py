import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from executor_svc.graphs.compile import GraphLimits, compile_graph
from stepwire.api.executor.v1 import graph_pb2 as pb
from stepwire.sdk.graph import (
    StepOptions,
    embed,
    graph,
    http,
    model,
    python,
    retry_policy,
    search,
    sleep,
    subtask,
    transform,
    upsert,
    wait_signal,
    workflow,
)
from stepwire.sdk.policies import (
    ALL_DONE,
    ANY,
    at_least,
    concurrency,
    limit,
    undo_http,
    undo_python,
)

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "write-graphs-in-python.md"


def as_json(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


def test_every_kind_of_step_is_written_as_its_proto() -> None:
    built = graph(
        python("split", function="text.split", queue="llm"),
        transform("sum", expression="value + 1", depends_on=["split"], input="steps.split.n"),
        embed("embed", model="m", depends_on=["split"], for_each="steps.split.batches"),
        upsert("upsert", collection="c", depends_on=["embed"]),
        search("search", collection="c", limit=3),
        model("answer", model="big", max_output_tokens=9, temperature=0.0),
        http("call", url="https://example.org", method="GET", headers={"Accept": "text/plain"}),
    )
    assert as_json(built)["steps"] == [
        {"name": "split", "python": {"function": "text.split"}, "queue": "llm"},
        {
            "name": "sum",
            "transform": {"expression": "value + 1"},
            "depends_on": ["split"],
            "input": "steps.split.n",
        },
        {
            "name": "embed",
            "embed": {"model": "m"},
            "depends_on": ["split"],
            "for_each": "steps.split.batches",
        },
        {"name": "upsert", "upsert": {"collection": "c"}, "depends_on": ["embed"]},
        {"name": "search", "search": {"collection": "c", "limit": 3}},
        {"name": "answer", "model": {"model": "big", "max_output_tokens": 9, "temperature": 0.0}},
        {
            "name": "call",
            "http": {
                "method": "GET",
                "url": "https://example.org",
                "headers": {"Accept": "text/plain"},
            },
        },
    ]


def test_retry_and_timeout_are_spans_of_time() -> None:
    step = python(
        "a",
        function="f",
        timeout=timedelta(seconds=90),
        retry=retry_policy(max_attempts=5, initial_backoff=timedelta(milliseconds=20)),
    )
    assert step.timeout.ToTimedelta() == timedelta(seconds=90)
    assert step.retry.max_attempts == 5
    assert step.retry.initial_backoff.ToTimedelta() == timedelta(milliseconds=20)
    assert not step.retry.HasField("max_backoff")


def test_what_is_left_out_is_unset() -> None:
    step = model("answer")
    assert not step.HasField("retry")
    assert not step.HasField("timeout")
    assert not step.model.HasField("temperature")
    assert as_json(graph(transform("a", expression="1"))) == {
        "steps": [{"name": "a", "transform": {"expression": "1"}}]
    }


def test_waits_and_subtasks() -> None:
    hour = timedelta(hours=1)
    assert [
        as_json(step)
        for step in (
            sleep("pause", duration=hour),
            sleep("until", until="input.when"),
            wait_signal("approved"),
            wait_signal("answer", signal="reply", wait=hour, default={"ok": False}),
            wait_signal("nothing", default=None),
            subtask("named", runs="invoice.approve"),
            subtask("pinned", runs=workflow("invoice.approve", "2")),
            subtask("inline", runs=graph(transform("a", expression="1"))),
        )
    ] == [
        {"name": "pause", "sleep": {"duration": "3600s"}},
        {"name": "until", "sleep": {"until": "input.when"}},
        {"name": "approved", "wait_signal": {"name": "approved"}},
        {
            "name": "answer",
            "wait_signal": {"name": "reply", "timeout": "3600s", "default": {"ok": False}},
        },
        {"name": "nothing", "wait_signal": {"name": "nothing", "default": None}},
        {"name": "named", "subtask": {"workflow": {"name": "invoice.approve"}}},
        {"name": "pinned", "subtask": {"workflow": {"name": "invoice.approve", "version": "2"}}},
        {
            "name": "inline",
            "subtask": {"graph": {"steps": [{"name": "a", "transform": {"expression": "1"}}]}},
        },
    ]


def test_steps_may_be_given_instead_of_their_names() -> None:
    first = transform("first", expression="1")
    assert list(transform("second", expression="1", depends_on=[first, "x"]).depends_on) == [
        *("first", "x")
    ]


def test_every_option_is_written_into_its_field() -> None:
    step = python(
        "a",
        function="f",
        depends_on=["b", "c"],
        join=at_least(1),
        when="states.b == 'SUCCEEDED'",
        for_each="input",
        max_parallel=4,
        items_join=ALL_DONE,
        input="item",
        queue="llm",
        priority=2,
        retry=retry_policy(jitter=0.0, non_retryable_reasons=["ValueError"]),
        timeout=timedelta(seconds=1),
        schedule_to_close=timedelta(seconds=2),
        heartbeat_timeout=timedelta(seconds=3),
        limited_by=limit("'openai'", max_starts=10, period=timedelta(minutes=1)),
        compensation=undo_python("g", input="output.id"),
    )
    assert as_json(step) == {
        "name": "a",
        "python": {"function": "f"},
        "depends_on": ["b", "c"],
        "join": {"mode": "JOIN_MODE_AT_LEAST", "at_least": 1},
        "when": "states.b == 'SUCCEEDED'",
        "for_each": "input",
        "max_parallel": 4,
        "items_join": {"mode": "JOIN_MODE_ALL_DONE"},
        "input": "item",
        "queue": "llm",
        "priority": 2,
        "retry": {"jitter": 0.0, "non_retryable_reasons": ["ValueError"]},
        "timeout": "1s",
        "schedule_to_close": "2s",
        "heartbeat_timeout": "3s",
        "limit": {"key": "'openai'", "max_starts": 10, "period": "60s"},
        "compensation": {"python": {"function": "g"}, "input": "output.id"},
    }
    # What the executor knows of a step, a Python program can say.
    sayable = {
        "limited_by" if name == "limit" else name for name in pb.Step.DESCRIPTOR.fields_by_name
    }
    kinds = {field.name for field in pb.Step.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert sayable - kinds - {"name"} == set(StepOptions.__annotations__)


def test_undoing_by_an_http_call() -> None:
    undo = undo_http(
        "https://example.org/${input.id}",
        method="DELETE",
        headers={"a": "b"},
        queue="llm",
        retry=retry_policy(max_attempts=9),
        timeout=timedelta(seconds=5),
    )
    assert as_json(undo) == {
        "http": {
            "url": "https://example.org/${input.id}",
            "method": "DELETE",
            "headers": {"a": "b"},
        },
        "queue": "llm",
        "retry": {"max_attempts": 9},
        "timeout": "5s",
    }


def test_what_holds_for_the_whole_graph() -> None:
    built = graph(
        transform("a", expression="1"),
        timeout=timedelta(days=1),
        concurrency=concurrency(
            "input.customer",
            max_running=3,
            policy=pb.CONCURRENCY_POLICY_CANCEL_IN_PROGRESS,
        ),
    )
    assert as_json(built)["timeout"] == "86400s"
    assert as_json(built)["concurrency"] == {
        "key": "input.customer",
        "max_running": 3,
        "policy": "CONCURRENCY_POLICY_CANCEL_IN_PROGRESS",
    }


@pytest.mark.parametrize("join", [ANY, ALL_DONE, at_least(2)])
def test_what_the_builders_write_is_accepted(join: pb.JoinPolicy) -> None:
    built = graph(
        one := transform("one", expression="1"),
        two := sleep("two", duration=timedelta(seconds=1)),
        three := wait_signal("three", wait=timedelta(days=3), default=0),
        subtask("four", runs="w", depends_on=[one, two, three], join=join, when="true"),
        concurrency=concurrency("input.customer"),
    )
    limits = GraphLimits(max_steps=10, max_bytes=10_000, queues=None)
    assert len(compile_graph(built, limits=limits).steps) == 4


def test_the_graph_of_the_how_to_is_accepted() -> None:
    (example, *_) = re.findall(r"```python\n(.*?)```", HOW_TO.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    limits = GraphLimits(max_steps=10, max_bytes=10_000, queues=None)
    assert len(compile_graph(names["order"], limits=limits).steps) == 5
