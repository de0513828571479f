"""Every rule of graph.proto: what breaks it, and the reason and field that say so."""

from itertools import pairwise

import pytest

from executor_svc.graphs.cache import ACCEPTED, GraphCache
from executor_svc.graphs.compile import GraphLimits, compile_graph
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import Reason, StepwireError

LIMITS = GraphLimits(max_steps=5, max_bytes=20_000, queues=frozenset({"default", "llm"}))


def step(name="a", kind="transform", spec=None, **fields):
    return {"name": name, kind: {"expression": "1"} if spec is None else spec, **fields}


def graph(*steps):
    return graph_pb2.Graph(steps=[graph_pb2.Step(**each) for each in steps])


def compiled(*steps):
    return compile_graph(graph(*steps), limits=LIMITS)


def many(count, **fields):
    return [step(f"s{number}", **fields) for number in range(count)]


FIRST = "graph.steps[0]"
HOUR = {"seconds": 3600}
BAD = [
    ([], Reason.FIELD_INVALID, "graph.steps"),
    (many(6), Reason.FIELD_INVALID, "graph.steps"),
    ([step(""), step("b")], Reason.FIELD_INVALID, f"{FIRST}.name"),
    ([step("Abc")], Reason.FIELD_INVALID, f"{FIRST}.name"),
    ([step("1a")], Reason.FIELD_INVALID, f"{FIRST}.name"),
    ([step("a-b")], Reason.FIELD_INVALID, f"{FIRST}.name"),
    ([step("a\n")], Reason.FIELD_INVALID, f"{FIRST}.name"),
    ([step("a" * 64)], Reason.FIELD_INVALID, f"{FIRST}.name"),
    ([step("a"), step("a")], Reason.FIELD_INVALID, "graph.steps[1].name"),
    ([step(depends_on=["x"])], Reason.DEPENDENCY_MISSING, f"{FIRST}.depends_on"),
    ([step(), step("b", depends_on=["a", "a"])], Reason.FIELD_INVALID, "graph.steps[1].depends_on"),
    (
        [step(depends_on=[f"x{number}" for number in range(101)])],
        Reason.FIELD_INVALID,
        f"{FIRST}.depends_on",
    ),
    ([step(depends_on=["a"])], Reason.GRAPH_CYCLE, "graph.steps"),
    ([step(depends_on=["b"]), step("b", depends_on=["a"])], Reason.GRAPH_CYCLE, "graph.steps"),
    ([{"name": "a"}], Reason.STEP_KIND_UNKNOWN, FIRST),
    ([step(queue="other")], Reason.FIELD_INVALID, f"{FIRST}.queue"),
    ([step(timeout={"seconds": -1})], Reason.FIELD_INVALID, f"{FIRST}.timeout"),
    ([step(timeout={"seconds": 86_401})], Reason.FIELD_INVALID, f"{FIRST}.timeout"),
    ([step(timeout={"seconds": 2**62})], Reason.FIELD_INVALID, f"{FIRST}.timeout"),
    (
        [step(kind="sleep", spec={"duration": HOUR}, schedule_to_close=HOUR)],
        Reason.FIELD_INVALID,
        f"{FIRST}.sleep.duration",
    ),
    (
        [step(kind="wait_signal", spec={"name": "s", "timeout": HOUR}, schedule_to_close=HOUR)],
        Reason.FIELD_INVALID,
        f"{FIRST}.wait_signal.timeout",
    ),
    (
        [step(kind="webhook", spec={"subscription_id": "x"})],
        Reason.FIELD_INVALID,
        f"{FIRST}.webhook",
    ),
    ([step(for_each="[1")], Reason.EXPRESSION_INVALID, f"{FIRST}.for_each"),
    ([step(for_each="[item]")], Reason.EXPRESSION_INVALID, f"{FIRST}.for_each"),
    ([step(input="nothing")], Reason.EXPRESSION_INVALID, f"{FIRST}.input"),
    ([step(input="item")], Reason.EXPRESSION_INVALID, f"{FIRST}.input"),
    ([step(input="value")], Reason.EXPRESSION_INVALID, f"{FIRST}.input"),
    ([step(input="steps.b"), step("b")], Reason.EXPRESSION_INVALID, f"{FIRST}.input"),
    ([step(input="1" * 4097)], Reason.EXPRESSION_INVALID, f"{FIRST}.input"),
    ([step(input="launch(1)")], Reason.EXPRESSION_INVALID, f"{FIRST}.input"),
    ([step(spec={})], Reason.EXPRESSION_INVALID, f"{FIRST}.transform.expression"),
    ([step(retry={"max_attempts": 101})], Reason.FIELD_INVALID, f"{FIRST}.retry.max_attempts"),
    ([step(retry={"max_attempts": -1})], Reason.FIELD_INVALID, f"{FIRST}.retry.max_attempts"),
    ([step(retry={"multiplier": 0.5})], Reason.FIELD_INVALID, f"{FIRST}.retry.multiplier"),
    ([step(retry={"multiplier": float("nan")})], Reason.FIELD_INVALID, f"{FIRST}.retry.multiplier"),
    (
        [step(retry={"initial_backoff": {"seconds": -1}})],
        Reason.FIELD_INVALID,
        f"{FIRST}.retry.initial_backoff",
    ),
    (
        [step(retry={"max_backoff": {"seconds": 2**62}})],
        Reason.FIELD_INVALID,
        f"{FIRST}.retry.max_backoff",
    ),
    (
        [step(retry={"initial_backoff": {"seconds": 2}, "max_backoff": {"seconds": 1}})],
        Reason.FIELD_INVALID,
        f"{FIRST}.retry.max_backoff",
    ),
    ([step(kind="python", spec={})], Reason.FIELD_INVALID, f"{FIRST}.python.function"),
    (
        [step(kind="python", spec={"function": "f" * 201})],
        Reason.FIELD_INVALID,
        f"{FIRST}.python.function",
    ),
    ([step(kind="embed", spec={"model": "m" * 201})], Reason.FIELD_INVALID, f"{FIRST}.embed.model"),
    ([step(kind="upsert", spec={})], Reason.FIELD_INVALID, f"{FIRST}.upsert.collection"),
    (
        [step(kind="search", spec={"collection": "No"})],
        Reason.FIELD_INVALID,
        f"{FIRST}.search.collection",
    ),
    (
        [step(kind="search", spec={"collection": "c", "limit": 1001})],
        Reason.FIELD_INVALID,
        f"{FIRST}.search.limit",
    ),
    (
        [step(kind="model", spec={"max_output_tokens": -1})],
        Reason.FIELD_INVALID,
        f"{FIRST}.model.max_output_tokens",
    ),
    (
        [step(kind="model", spec={"temperature": 2.1})],
        Reason.FIELD_INVALID,
        f"{FIRST}.model.temperature",
    ),
    *(
        ([step(kind="model", spec=spec)], Reason.FIELD_INVALID, f"{FIRST}.model.{field}")
        for spec, field in (
            ({"min_quality": 1.1}, "min_quality"),
            ({"project": "x" * 101}, "project"),
            ({"project": "a\0b"}, "project"),
            ({"json_schema": {"name": "x"}}, "json_schema.schema"),
        )
    ),
    ([step(kind="http", spec={"url": "ftp://x"})], Reason.FIELD_INVALID, f"{FIRST}.http.url"),
    (
        [step(kind="http", spec={"url": "http://x", "method": "BREW"})],
        Reason.FIELD_INVALID,
        f"{FIRST}.http.method",
    ),
    (
        [step(kind="http", spec={"url": "http://x/${1 +}"})],
        Reason.EXPRESSION_INVALID,
        f"{FIRST}.http.url",
    ),
    (
        [step(kind="http", spec={"url": "http://x", "headers": {"n": 1}})],
        Reason.FIELD_INVALID,
        f"{FIRST}.http.headers['n']",
    ),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case[1]}-{case[2]}")
def test_a_rule_that_is_broken_is_named(case):
    steps, reason, field = case
    with pytest.raises(StepwireError) as caught:
        compiled(*steps)
    assert caught.value.reason == reason
    assert [fault.field for fault in caught.value.faults] == [field]


def test_a_graph_that_is_too_large():
    big = step(kind="python", spec={"function": "f"}, queue="default", input=f"'{'x' * 3000}'")
    limits = GraphLimits(max_steps=5, max_bytes=1000, queues=None)
    with pytest.raises(StepwireError) as caught:
        compile_graph(graph(big), limits=limits)
    assert caught.value.reason == Reason.PAYLOAD_TOO_LARGE
    assert caught.value.metadata["field"] == "graph"
    assert caught.value.metadata["limit_bytes"] == "1000"


def test_a_cycle_is_shown_in_the_order_of_its_steps():
    with pytest.raises(StepwireError) as caught:
        compiled(
            step("a", depends_on=["c"]), step("b", depends_on=["a"]), step("c", depends_on=["b"])
        )
    shown = caught.value.metadata["steps"].split(" -> ")
    assert shown[0] == shown[-1]
    follows = {"a": "b", "b": "c", "c": "a"}
    assert all(follows[one] == other for one, other in pairwise(shown))


def test_a_graph_knows_its_order():
    made = compiled(
        step("join", depends_on=["left", "right"]),
        step("left", depends_on=["root"]),
        step("root"),
        step("right", depends_on=["root"]),
    )
    assert [made.steps[ordinal].name for ordinal in made.by_name["root"].successors] == [
        "left",
        "right",
    ]
    assert [each.name for each in made.initial] == ["join", "root"]
    assert [each.name for each in made.sinks] == ["join"]


def test_equal_graphs_have_one_hash():
    assert compiled(step()).graph_hash == compiled(step()).graph_hash
    assert compiled(step()).graph_hash != compiled(step("b")).graph_hash


def test_the_defaults():
    (made,) = compiled(step()).steps
    assert made.queue == "default"
    assert made.timeout.total_seconds() == 300
    assert made.retry.max_attempts == 3
    assert made.retry.initial_backoff.total_seconds() == 0.5
    assert made.retry.max_backoff.total_seconds() == 30
    assert made.retry.multiplier == 2


def reads(**fields):
    made = compiled(step("x"), step("y"), step("a", depends_on=["x", "y"], **fields))
    return made.steps[2]


def test_a_step_reads_the_outputs_that_it_uses():
    both = {"x", "y"}
    assert reads().reads_run == both
    assert reads(input="steps.x").reads_run == {"x"}
    assert reads(input="input").reads_run == set()
    assert reads(input="steps").reads_run == both
    assert reads(input="steps['x']").reads_run == both
    assert reads(input="input", spec={"expression": "steps.y"}).reads_run == {"y"}
    assert reads(when="steps.x > 1", input="1").reads_when == {"x"}
    each = reads(for_each="steps.x", spec={"expression": "item + steps.y"})
    assert each.reads_items == {"x"}
    assert each.reads_run == {"y"}


def test_a_step_that_asks_how_others_ended():
    assert not reads(input="steps.x").reads_states
    assert reads(when="states.x == 'SUCCEEDED'").reads_states


def test_a_sleep_must_end_before_its_task_has_to():
    message = graph(step("short", "sleep", {"duration": HOUR}), step("b"))
    message.timeout.seconds = 3601
    compile_graph(message, limits=LIMITS)
    message.timeout.seconds = 3600
    with pytest.raises(StepwireError) as caught:
        compile_graph(message, limits=LIMITS)
    assert [fault.field for fault in caught.value.faults] == [f"{FIRST}.sleep.duration"]
    # One that was accepted before runs as it is.
    compile_graph(message, limits=ACCEPTED)


def test_what_was_accepted_once_is_no_new_graph():
    """A graph that the server runs itself is known, and yet not to be had."""
    cache, message = GraphCache(), graph(step("a", "webhook", {"subscription_id": "x"}))
    assert cache.compile(message, limits=ACCEPTED, field="graph") is cache.compile(
        message, limits=ACCEPTED, field="graph"
    )
    for _ in range(2):
        with pytest.raises(StepwireError):
            cache.compile(message, limits=LIMITS, field="graph")
    other = graph(step())
    cache.compile(other, limits=ACCEPTED, field="graph")
    checked = cache.compile(other, limits=LIMITS, field="graph")
    assert cache.compile(other, limits=ACCEPTED, field="graph") is checked
