"""What a forked task keeps: a few cases by hand, and all small graphs against the rules."""

from functools import cache
from itertools import combinations, product

import pytest

from executor_svc.engine.records import StepRecord, StepState
from executor_svc.graphs.compile import GraphLimits, compile_graph
from executor_svc.tasks.fork import plan_fork
from stepwire.api.executor.v1 import graph_pb2

LIMITS = GraphLimits(max_steps=1000, max_bytes=2**20, queues=None)
ALL, ANY, ALL_DONE = (
    graph_pb2.JOIN_MODE_ALL,
    graph_pb2.JOIN_MODE_ANY,
    graph_pb2.JOIN_MODE_ALL_DONE,
)
GOOD, SKIPPED, FAILED = StepState.SUCCEEDED, StepState.SKIPPED, StepState.FAILED
DIAMOND = {"a": "", "b": "a", "c": "a", "d": "bc"}


def compiled(edges, *, modes=None, undone=""):
    """A graph of transform steps; `undone` can be compensated."""
    steps = []
    for name, depends_on in edges.items():
        step = graph_pb2.Step(name=name, transform={"expression": "1"}, depends_on=depends_on)
        if (modes or {}).get(name):
            step.join.mode = modes[name]
        if name in undone:
            step.compensation.python.function = "undo"
        steps.append(step)
    return compile_graph(graph_pb2.Graph(steps=steps), limits=LIMITS)


def record(step_id, state, *, scope="", item=None, graph_hash=None):
    return StepRecord(
        step_id=step_id,
        ordinal=0,
        item=item,
        items=None,
        state=state,
        attempt=1,
        queue="default",
        waits_for="",
        due_at=None,
        failure=None,
        started_at=None,
        ended_at=None,
        output=None,
        scope=scope,
        graph_hash=graph_hash,
    )


def plan(graph, states, from_step, *, others=(), added=()):
    records = [record(name, state) for name, state in states.items()]
    by_hash = {each.graph_hash: each for each in added}
    return plan_fork(graph, [*records, *others], from_step, priority=5, added=by_hash)


def rows(fork):
    return {step.step_id: (step.needs, step.open) for step in fork.steps}


def test_what_comes_before_is_kept():
    fork = plan(compiled(DIAMOND), dict.fromkeys("abcd", GOOD), "b")
    assert fork.kept == ["a", "c"]
    assert rows(fork) == {"b": (0, 0), "d": (1, 1)}
    assert fork.open_sinks == 1


def test_from_the_first_step_nothing_is_kept():
    fork = plan(compiled(DIAMOND), dict.fromkeys("abcd", GOOD), "a")
    assert fork.kept == []
    assert rows(fork) == {"a": (0, 0), "d": (2, 2)}


def test_a_step_that_had_not_ended_runs_anew():
    states = {"a": GOOD, "b": GOOD, "c": StepState.RUNNING, "d": StepState.BLOCKED}
    fork = plan(compiled(DIAMOND), states, "d")
    assert fork.kept == ["a", "b"]
    assert rows(fork) == {"c": (0, 0), "d": (1, 1)}


def test_other_branches_go_on():
    graph = compiled({"a": "", "b": "a", "x": "", "y": "x"})
    states = {"a": GOOD, "b": FAILED, "x": GOOD, "y": GOOD}
    fork = plan(graph, states, "b")
    assert fork.kept == ["a", "x", "y"]
    assert fork.open_sinks == 1


def test_a_join_that_has_what_it_needs_is_ready():
    graph = compiled(DIAMOND, modes={"d": ANY})
    fork = plan(graph, {"a": GOOD, "b": GOOD, "c": StepState.RUNNING, "d": FAILED}, "d")
    assert fork.kept == ["a", "b"]
    assert rows(fork) == {"c": (0, 0), "d": (0, 0)}


def test_a_join_that_cannot_be_satisfied_is_for_a_worker():
    fork = plan(compiled(DIAMOND), {"a": GOOD, "b": SKIPPED, "c": GOOD, "d": SKIPPED}, "d")
    assert rows(fork) == {"d": (1, 0)}


def test_a_failure_that_was_tolerated_is_kept():
    graph = compiled(DIAMOND, modes={"d": ALL_DONE})
    fork = plan(graph, {"a": GOOD, "b": FAILED, "c": GOOD, "d": GOOD}, "d")
    assert fork.kept == ["a", "b", "c"]
    assert rows(fork) == {"d": (0, 0)}


def test_a_failure_that_was_not_is_not():
    fork = plan(compiled(DIAMOND), {"a": GOOD, "b": FAILED, "c": GOOD}, "d")
    assert fork.kept == ["a", "c"]
    assert rows(fork) == {"b": (0, 0), "d": (1, 1)}


def test_the_steps_that_a_step_has_added_are_not_steps_of_the_graph():
    others = [record("a/b", FAILED, scope="a"), record("a[0]", GOOD, item=0)]
    fork = plan(compiled({"a": "", "b": "a"}), {"a": GOOD, "b": GOOD}, "b", others=others)
    assert fork.kept == ["a"]


def test_what_was_undone_runs_anew_with_what_depends_on_it():
    graph = compiled({"a": "", "b": "a", "c": "b", "x": ""}, undone="b")
    states = {"a": GOOD, "b": GOOD, "c": FAILED, "x": GOOD}
    assert plan(graph, states, "c").kept == ["a", "b", "x"]
    undone = plan(graph, states, "c", others=[record("~undo", GOOD)])
    assert undone.kept == ["a", "x"]
    assert rows(undone) == {"b": (0, 0)}


@pytest.mark.parametrize("adder", ["a", "a[1]", "a/deep", "a[1]/deep"])
def test_what_was_added_and_undone_runs_anew_with_what_depends_on_it(adder):
    graph = compiled({"a": "", "b": "a", "x": "", "y": "x"})
    states = {"a": GOOD, "b": FAILED, "x": GOOD, "y": FAILED}
    added, plain = compiled({"s": ""}, undone="s"), compiled({"s": ""})
    others = [
        record(f"{adder}/s", GOOD, scope=adder, graph_hash=added.graph_hash),
        record("x/s", GOOD, scope="x", graph_hash=plain.graph_hash),
    ]
    kept = plan(graph, states, "b", others=others, added=(added, plain))
    assert (kept.kept, kept.compensates) == (["a", "x"], True)
    # What undoes a task is not undone itself.
    undo = record("~undo/s", GOOD, scope="~undo", graph_hash=b"another")
    undone = plan(graph, states, "b", others=[*others, undo], added=(added, plain))
    assert (undone.kept, undone.compensates) == (["x"], False)


def test_the_priority_of_steps():
    graph = compile_graph(
        graph_pb2.Graph(
            steps=[
                graph_pb2.Step(name="a", transform={"expression": "1"}, priority=2),
                graph_pb2.Step(name="b", transform={"expression": "1"}),
            ]
        ),
        limits=LIMITS,
    )
    fork = plan_fork(graph, [], "a", priority=7)
    assert {step.step_id: step.priority for step in fork.steps} == {"a": 2, "b": 7}


@cache
def small_graphs():
    """All graphs of four steps, in which a step depends on steps before it."""
    names = "abcd"
    choices = [
        [
            "".join(chosen)
            for count in range(place + 1)
            for chosen in combinations(names[:place], count)
        ]
        for place in range(4)
    ]
    return [compiled(dict(zip(names, edges, strict=True))) for edges in product(*choices)]


def possible(graph, states):
    """Whether a task can have come to stand so: a step has ended behind what it needs."""
    return all(
        all(states.get(each) in (GOOD, SKIPPED) for each in graph.by_name[name].depends_on)
        for name, state in states.items()
        if state in (GOOD, SKIPPED)
    )


@pytest.mark.parametrize("from_step", list("abcd"))
def test_every_small_graph(from_step):
    """Under ALL: every step is kept, or has a row, or follows one that runs anew."""
    seen = 0
    for graph in small_graphs():
        for states in product((GOOD, SKIPPED, FAILED, None), repeat=4):
            found = {name: state for name, state in zip("abcd", states, strict=True) if state}
            if not possible(graph, found):
                continue
            seen += 1
            fork = plan(graph, found, from_step)
            kept, begun = set(fork.kept), rows(fork)
            assert from_step not in kept
            assert not kept & begun.keys()
            for step in graph.steps:
                before = set(step.depends_on)
                if step.name in kept:
                    assert before <= kept
                    assert found[step.name] in (GOOD, SKIPPED)
                elif step.name not in begun:
                    # The only step that it depends on will begin it.
                    assert len(before) == 1
                    assert not before & kept
                else:
                    left = before - kept
                    good = {each for each in before & kept if found[each] is GOOD}
                    needs, open_ = begun[step.name]
                    assert needs == len(before) - len(good)
                    assert open_ == (len(left) if needs else 0)
            sinks = {step.name for step in graph.sinks}
            assert fork.open_sinks == len(sinks - kept) >= 1
    assert seen > 1000
