"""All problems of a graph, found by the rules that accept graphs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_svc.graphs.compile import GraphLimits, compile_graph
from executor_svc.workflows.problems import MAX_PROBLEMS, problems_of
from executor_svc.workflows.shape import longest_chain
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import StepwireError

LIMITS = GraphLimits(max_steps=100, max_bytes=100_000, queues=frozenset({"default", "llm"}))


def graph(*steps: dict[str, Any], **fields: Any) -> graph_pb2.Graph:
    return graph_pb2.Graph(steps=[graph_pb2.Step(**step) for step in steps], **fields)


def step(name: str, *depends_on: str, expression: str = "1", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "depends_on": list(depends_on),
        "transform": {"expression": expression},
        **fields,
    }


def found(message: graph_pb2.Graph) -> list[tuple[str, str]]:
    return [(problem.field, problem.reason) for problem in problems_of(message, limits=LIMITS)]


def test_a_good_graph_has_none() -> None:
    assert found(graph(step("a"), step("b", "a", expression="steps.a"))) == []


def test_problems_of_several_steps_come_in_their_order() -> None:
    message = graph(
        step("a", queue="nowhere"),
        step("b", "a"),
        step("c", expression="unknown_name"),
        {"name": "d"},
    )
    assert found(message) == [
        ("graph.steps[0].queue", "FIELD_INVALID"),
        ("graph.steps[2].transform.expression", "EXPRESSION_INVALID"),
        ("graph.steps[3]", "STEP_KIND_UNKNOWN"),
    ]


def test_problems_of_one_step_are_all_told() -> None:
    message = graph(
        step(
            "a",
            expression="1 +",
            queue="nowhere",
            timeout={"seconds": -1},
            retry={"max_attempts": -1},
            input="item.x",
        )
    )
    assert {field for field, _ in found(message)} == {
        *("graph.steps[0].queue", "graph.steps[0].timeout", "graph.steps[0].input"),
        *("graph.steps[0].retry.max_attempts", "graph.steps[0].transform.expression"),
    }


def test_problems_of_a_step_s_policies_are_all_told() -> None:
    message = graph(
        step("a"),
        step(
            "b",
            "a",
            when="nothing",
            join={"mode": "JOIN_MODE_AT_LEAST", "at_least": 2},
            max_parallel=3,
            priority=10,
            limit={"key": "input.k"},
            compensation={"input": "nothing", "python": {"function": "f"}},
        ),
        concurrency={"key": ""},
        timeout={"seconds": -1},
    )
    assert [field.removeprefix("graph.") for field, _ in found(message)] == [
        *("concurrency.key", "timeout"),
        *("steps[1].join.at_least", "steps[1].when", "steps[1].max_parallel"),
        *("steps[1].priority", "steps[1].limit", "steps[1].compensation.input"),
    ]


def test_problems_of_a_graph_in_a_graph() -> None:
    inner = {"graph": graph(step("x", expression="1 +"))}
    message = graph({"name": "a", "subtask": inner}, step("b", queue="nowhere"))
    assert found(message) == [
        ("graph.steps[0].subtask.graph.steps[0].transform.expression", "EXPRESSION_INVALID"),
        ("graph.steps[1].queue", "FIELD_INVALID"),
    ]


def test_a_bad_for_each_does_not_hide_the_item_from_other_expressions() -> None:
    message = graph(step("a", expression="item + index", for_each="1 +"))
    assert found(message) == [("graph.steps[0].for_each", "EXPRESSION_INVALID")]


def test_names_and_dependencies() -> None:
    message = graph(
        step("a"),
        step("a"),
        step("Bad"),
        step("d", "Bad", "nothing", "nowhere", "a", "a"),
    )
    problems = problems_of(message, limits=LIMITS)
    assert [(problem.field, problem.reason) for problem in problems] == [
        ("graph.steps[1].name", "FIELD_INVALID"),
        ("graph.steps[2].name", "FIELD_INVALID"),
        *[("graph.steps[3].depends_on", "FIELD_INVALID")],
        *[("graph.steps[3].depends_on", "DEPENDENCY_MISSING")] * 2,
    ]
    told = " ".join(problem.description for problem in problems)
    assert "'nothing'" in told
    assert "'nowhere'" in told


def test_a_step_that_reads_a_missing_dependency_is_not_told_twice() -> None:
    message = graph(step("a", "typo", expression="steps.typo"))
    assert found(message) == [("graph.steps[0].depends_on", "DEPENDENCY_MISSING")]


def test_every_cycle_is_told() -> None:
    message = graph(
        step("a", "b"), step("b", "a"), step("c", "d"), step("d", "e"), step("e", "c"), step("f")
    )
    problems = problems_of(message, limits=LIMITS)
    assert [problem.reason for problem in problems] == ["GRAPH_CYCLE", "GRAPH_CYCLE"]
    told = sorted(len(problem.description.split(" -> ")) for problem in problems)
    assert told == [3, 4]


def test_a_cycle_does_not_hide_other_problems() -> None:
    message = graph(step("a", "b"), step("b", "a", expression="1 +"), step("c", "c"))
    assert {reason for _, reason in found(message)} == {"GRAPH_CYCLE", "EXPRESSION_INVALID"}


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (graph(), ("graph.steps", "FIELD_INVALID")),
        (graph(*(step(f"s{place}") for place in range(101))), ("graph.steps", "FIELD_INVALID")),
        (graph(step("a", expression="1" * 100_000)), ("graph", "PAYLOAD_TOO_LARGE")),
    ],
    ids=["none", "many", "large"],
)
def test_what_is_wrong_as_a_whole_is_told_alone(
    message: graph_pb2.Graph, problem: tuple[str, str]
) -> None:
    assert found(message) == [problem]


def test_there_is_a_bound() -> None:
    message = graph(*(step(f"s{place}", expression="1 +") for place in range(100)))
    assert len(found(message)) == MAX_PROBLEMS


names = st.sampled_from(["a", "b", "c", "d", "Bad", ""])
expressions = st.sampled_from(["1", "1 +", "item", "steps.a", "steps.b.c", "nothing"])
steps = st.builds(
    lambda name, depends_on, expression, **fields: step(
        name, *depends_on, expression=expression, **fields
    ),
    names,
    st.lists(names, max_size=4),
    expressions,
    for_each=st.sampled_from(["", "[1]", "1 +"]),
    input=st.sampled_from(["", "input", "1 +"]),
    queue=st.sampled_from(["", "llm", "nowhere"]),
)


@given(st.lists(steps, max_size=6))
def test_it_agrees_with_the_compiler(drawn: list[dict[str, Any]]) -> None:
    """It finds nothing in graphs that are accepted, and the compiler's problem in others."""
    message = graph(*drawn)
    before = message.SerializeToString(deterministic=True)
    problems = problems_of(message, limits=LIMITS)
    assert message.SerializeToString(deterministic=True) == before
    assert len(set(problems)) == len(problems)
    if not problems:
        compile_graph(message, limits=LIMITS)
        return
    with pytest.raises(StepwireError) as caught:
        compile_graph(message, limits=LIMITS)
    told = {(problem.field, problem.reason) for problem in problems}
    assert {(fault.field, caught.value.reason) for fault in caught.value.faults} <= told


@pytest.mark.parametrize(
    ("built", "chain"),
    [
        ([step("a")], ["a"]),
        ([step("b", "a"), step("a"), step("c", "b")], ["a", "b", "c"]),
        ([step("a"), step("b", "a"), step("d", "a", "c"), step("c", "b")], ["a", "b", "c", "d"]),
    ],
    ids=len,
)
def test_the_longest_chain(built: list[dict[str, Any]], chain: list[str]) -> None:
    assert list(longest_chain(compile_graph(graph(*built), limits=LIMITS))) == chain
