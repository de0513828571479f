"""What follows from how an attempt ended."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from executor_svc.engine.outcomes import (
    Added,
    Compensated,
    Expanded,
    Failed,
    Skipped,
    Succeeded,
    Waits,
)
from executor_svc.engine.records import Attempt, Blob, Failure, Phase, Scope, StepState, TaskContext
from executor_svc.engine.state_machine import MAX_CLAIMS, settle, settle_undo
from executor_svc.graphs.compile import GraphLimits, compile_graph
from stepwire.api.executor.v1 import graph_pb2
from stepwire.ids import uuid7

LIMITS = GraphLimits(max_steps=100, max_bytes=2**20, queues=None)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE = Blob(b"1", "application/json")
TASK = TaskContext(uuid7(), "default", b"", ONE, "", priority=4, depth=0)
NO = Failure("STEP_FAILED", "no")
ANY = {"mode": graph_pb2.JOIN_MODE_ANY}
ALL_DONE = {"mode": graph_pb2.JOIN_MODE_ALL_DONE}


def graph(**dependencies):
    """Compile `name=fields`, or `name="dependency dependency"`."""
    message = graph_pb2.Graph()
    for name, fields in dependencies.items():
        given = {"depends_on": fields.split()} if isinstance(fields, str) else fields
        message.steps.add(name=name, **{"python": {"function": "f"}, **given})
    return compile_graph(message, limits=LIMITS)


def settled(made, name, outcome, *, claims=1, announced=True, **fields):
    base = name.rpartition("/")[2].partition("[")[0]
    attempt = Attempt(TASK, name, made.by_name[base].ordinal, fields.pop("attempt", 1), **fields)
    return settle(
        made,
        attempt,
        outcome,
        now=NOW,
        rng=random.Random(3),
        claims=claims,
        announced=announced,
    )


def event(settlement):
    (only,) = settlement.events
    return json.loads(only)


def test_the_only_successor_is_continued_with():
    settlement = settled(graph(a="", b="a"), "a", Succeeded(ONE))
    assert settlement.state == StepState.SUCCEEDED
    assert settlement.output == ONE
    assert [(each.step_id, each.claim) for each in settlement.next] == [("b", True)]
    assert not settlement.joins
    assert not settlement.sink
    assert event(settlement) == [11, "a", 1]


@pytest.mark.parametrize(
    ("made", "claims"),
    [
        (graph(a="", b="a"), 0),
        (graph(a="", b={"depends_on": ["a"], "queue": "other"}), 1),
    ],
    ids=["draining", "other-queue"],
)
def test_a_successor_that_is_left_to_others(made, claims):
    settlement = settled(made, "a", Succeeded(ONE), claims=claims)
    assert [(each.step_id, each.claim) for each in settlement.next] == [("b", False)]


@pytest.mark.parametrize(("claims", "taken"), [(0, 0), (1, 1), (2, 2), (9, 3)])
def test_of_a_fork_a_worker_takes_as_much_as_it_wants(claims, taken):
    settlement = settled(graph(a="", b="a", c="a", d="a"), "a", Succeeded(ONE), claims=claims)
    assert [each.step_id for each in settlement.next] == ["b", "c", "d"]
    assert sum(each.claim for each in settlement.next) == taken


def test_a_fork_of_steps_that_are_over_at_once_stays_here():
    instant = {"depends_on": ["a"], "transform": {"expression": "1"}}
    made = graph(a="", **{f"b{place}": dict(instant) for place in range(70)})
    settlement = settled(made, "a", Succeeded(ONE))
    assert sum(each.claim for each in settlement.next) == MAX_CLAIMS


def test_a_join_counts_its_steps():
    settlement = settled(graph(a="", b="", c="a b"), "a", Succeeded(ONE))
    assert not settlement.next
    assert [(each.step_id, each.claim) for each in settlement.joins] == [("c", True)]


def test_a_fork_into_a_step_and_a_join():
    settlement = settled(graph(a="", b="", c="a b", d="a"), "a", Succeeded(ONE))
    assert [each.step_id for each in settlement.next] == ["d"]
    assert [each.step_id for each in settlement.joins] == ["c"]


def test_a_last_step_is_a_sink():
    assert settled(graph(a=""), "a", Succeeded(ONE)).sink


EACH = graph(each={"for_each": "[1]"}, after="each")


def test_items_are_started():
    settlement = settled(EACH, "each", Expanded([b"1", b"2"]))
    assert settlement.state == StepState.WAITING
    assert settlement.items == 2
    assert (settlement.waits_for, settlement.wait) == ("items", None)
    assert [(e.step_id, e.item, e.input, e.claim) for e in settlement.next] == [
        ("each[0]", 0, b"1", True),
        ("each[1]", 1, b"2", False),
    ]
    assert event(settlement) == [15, "each", 1, {"items": 2}]


def test_one_item_is_continued_with():
    assert settled(EACH, "each", Expanded([b"1"])).next[0].claim


def test_no_items_are_an_empty_list():
    settlement = settled(EACH, "each", Expanded([]))
    assert settlement.state == StepState.SUCCEEDED
    assert settlement.output == Blob(b"[]", "application/json")
    assert [each.step_id for each in settlement.next] == ["after"]


def test_an_item_arrives_at_its_step():
    settlement = settled(EACH, "each[1]", Succeeded(ONE), item=1)
    assert not settlement.next
    assert [each.step_id for each in settlement.joins] == ["each"]
    assert not settlement.sink


def test_a_gathered_step_goes_on():
    settlement = settled(EACH, "each", Succeeded(None), items=2)
    assert settlement.output is None
    assert [each.step_id for each in settlement.next] == ["after"]


def test_a_failure_waits_for_its_next_attempt():
    settlement = settled(graph(a="", b="a"), "a", Failed(NO), attempt=4, failures=1)
    assert settlement.state == StepState.WAITING
    assert settlement.failure == NO
    # The second failure: the upper half of a second.
    assert timedelta(seconds=0.5) <= settlement.wait <= timedelta(seconds=1)
    assert (settlement.waits_for, settlement.retry) == ("retry", True)
    assert not settlement.next
    assert not settlement.joins
    assert event(settlement) == [12, "a", 4, {"reason": "STEP_FAILED", "message": "no"}]


@pytest.mark.parametrize(
    ("outcome", "failures"),
    [(Failed(NO, retryable=False), 0), (Failed(NO), 2)],
    ids=["not-retryable", "last-attempt"],
)
def test_a_failure_for_good(outcome, failures):
    settlement = settled(graph(a="", b="a"), "a", outcome, failures=failures)
    assert settlement.state == StepState.FAILED
    assert settlement.fatal
    assert settlement.waits_for is None
    assert not settlement.next
    assert event(settlement)[0] == 13


@pytest.mark.parametrize(("after", "wait"), [(timedelta(hours=1), 3600), (timedelta(0), 0.25)])
def test_the_failure_may_ask_for_a_longer_wait(after, wait):
    settlement = settled(graph(a=""), "a", Failed(NO, retry_after=after))
    assert settlement.wait.total_seconds() >= wait


@pytest.mark.parametrize("outcome", [Succeeded(ONE), Failed(NO), Failed(NO, retryable=False)])
def test_no_outcome_changes_the_attempt(outcome):
    settlement = settled(graph(a=""), "a", outcome, attempt=7)
    assert settlement.attempt.attempt == 7
    assert event(settlement)[1:3] == ["a", 7]


@pytest.mark.parametrize(
    ("outcome", "types"),
    [
        (Succeeded(ONE), [10, 11]),
        (Failed(NO), [10, 12]),
        (Waits("sleep", wait=timedelta(1)), [10, 17]),
        (Skipped(), [16]),
        (Waits("worker", wait=timedelta(1)), [17]),
    ],
)
def test_the_start_is_told_with_the_end_if_it_was_not_before(outcome, types):
    settlement = settled(graph(a=""), "a", outcome, announced=False)
    assert [json.loads(each)[0] for each in settlement.events] == types


def test_what_comes_back_from_a_wait_does_not_start_again():
    settlement = settled(graph(a=""), "a", Succeeded(ONE), announced=False, phase=Phase.CAME)
    assert event(settlement)[0] == 11


def test_a_skipped_step_leaves_its_successor_unsatisfied():
    settlement = settled(graph(a="", b="a"), "a", Skipped())
    assert settlement.state == StepState.SKIPPED
    assert [each.phase for each in settlement.next] == [Phase.UNSATISFIED]


def test_a_skipped_last_step_closes_the_task():
    assert settled(graph(a=""), "a", Skipped()).sink


@pytest.mark.parametrize(("join", "counts"), [({}, False), (ANY, False), (ALL_DONE, True)])
def test_what_counts_for_a_join_when_a_step_is_skipped(join, counts):
    made = graph(a="", b="", c={"depends_on": ["a", "b"], "join": join})
    (arrival,) = settled(made, "a", Skipped()).joins
    assert arrival.counts is counts


@pytest.mark.parametrize(("join", "fatal"), [({}, True), (ANY, False), (ALL_DONE, False)])
def test_whether_a_failure_fails_the_task(join, fatal):
    made = graph(a="", b="", c={"depends_on": ["a", "b"], "join": join})
    settlement = settled(made, "a", Failed(NO, retryable=False))
    assert settlement.fatal is fatal
    assert [each.step_id for each in settlement.joins] == ([] if fatal else ["c"])


def test_a_failure_that_one_of_two_successors_cannot_bear():
    made = graph(a="", b="a", c={"depends_on": ["a"], "join": ALL_DONE})
    assert settled(made, "a", Failed(NO, retryable=False)).fatal


@pytest.mark.parametrize("reason", ["STEP_FAILED", "ValueError"])
def test_reasons_that_no_attempt_could_mend(reason):
    made = graph(a={"retry": {"non_retryable_reasons": [reason]}})
    failure = Failure("STEP_FAILED", "no", {"exception": "ValueError"})
    assert settled(made, "a", Failed(failure)).state == StepState.FAILED


def test_no_attempt_is_begun_that_could_not_end_in_time():
    late = NOW + timedelta(milliseconds=100)
    assert settled(graph(a=""), "a", Failed(NO), expires_at=late).state == StepState.FAILED


def test_at_most_max_parallel_items_are_let_go():
    made = graph(each={"for_each": "[1]", "max_parallel": 2})
    settlement = settled(made, "each", Expanded([b"1"] * 5), claims=9)
    assert (settlement.items, settlement.needs, settlement.released) == (5, 5, 2)
    assert [each.open for each in settlement.next] == [0, 0, 1, 1, 1]
    assert [each.claim for each in settlement.next] == [True, True, False, False, False]


def test_fewer_items_than_must_succeed():
    made = graph(each={"for_each": "[1]", "items_join": {"mode": 3, "at_least": 3}})
    settlement = settled(made, "each", Expanded([b"1"] * 2))
    assert settlement.failure.reason == "JOIN_UNSATISFIED"


def test_items_left_over_are_pruned():
    made = graph(each={"for_each": "[1]", "items_join": ANY})
    assert settled(made, "each", Succeeded(None), items=3, phase=Phase.CAME).prune


def test_added_steps_stand_below_the_one_that_adds_them():
    added = graph(x="", y="x", z="x y")
    settlement = settled(graph(plan=""), "plan", Added(added, b"7"), queue="default")
    assert (settlement.waits_for, settlement.items, settlement.needs) == ("steps", 1, 1)
    assert (settlement.inbox, settlement.added) == (b"7", added.graph_hash)
    # A join has its row from the start; what follows one step gets it when that has ended.
    assert [(e.step_id, e.needs, e.claim) for e in settlement.next] == [
        ("plan/x", 0, True),
        ("plan/z", 2, False),
    ]
    assert {e.scope for e in settlement.next} == {("plan", added.graph_hash)}


@pytest.mark.parametrize(
    ("step_id", "undone", "expected"),
    [("plan", True, True), ("plan", False, False), ("~undo/plan", True, False)],
)
def test_what_is_added_may_have_to_be_undone(step_id, undone, expected):
    compensation = {"compensation": {"python": {"function": "f"}}} if undone else {}
    added = graph(x=compensation)
    scope = Scope("~undo", b"hash", ONE) if "/" in step_id else None
    settlement = settled(graph(plan=""), step_id, Added(added, b"7"), scope=scope)
    assert settlement.compensates is expected


def test_a_worker_claims_no_added_step_of_another_queue():
    settlement = settled(graph(plan=""), "plan", Added(graph(x=""), b"7"), queue="gpu")
    assert [e.claim for e in settlement.next] == [False]


def test_the_last_added_step_arrives_at_the_one_that_added_it():
    scope = Scope("plan", b"hash", ONE)
    settlement = settled(graph(x="", y="x"), "plan/y", Succeeded(ONE), scope=scope)
    assert [each.step_id for each in settlement.joins] == ["plan"]
    assert not settlement.sink


def test_an_added_step_is_followed_in_its_scope():
    scope = Scope("plan", b"hash", ONE)
    (following,) = settled(graph(x="", y="x"), "plan/x", Succeeded(ONE), scope=scope).next
    assert (following.step_id, following.scope) == ("plan/y", ("plan", b"hash"))


@pytest.mark.parametrize(("own", "priority"), [(0, 4), (9, 9)])
def test_a_step_has_its_tasks_priority_or_its_own(own, priority):
    made = graph(a="", b={"depends_on": ["a"], "priority": own})
    assert settled(made, "a", Succeeded(ONE)).next[0].priority == priority


def undo(outcome, **fields):
    attempt = Attempt(TASK, "~undo", -1, 1, **fields)
    return settle_undo(attempt, outcome, rng=random.Random(3), claims=1)


def test_a_compensation_ends_with_what_it_could_not_undo():
    settlement = undo(Compensated(["a", "b"]))
    assert settlement.state == StepState.SUCCEEDED
    assert settlement.failure.metadata == {"compensation_failed": "a, b"}


def test_a_plan_that_cannot_be_made_ends_the_compensation():
    settlement = undo(Failed(NO), failures=2)
    assert settlement.state == StepState.SUCCEEDED
    assert settlement.failure.metadata == {"compensation_failed": "no"}


def test_a_compensation_that_fails_keeps_none_of_the_others_from_running():
    scope = Scope("~undo", b"hash", ONE)
    made = graph(x="", y={"depends_on": ["x"], "join": ALL_DONE})
    settlement = settled(made, "~undo/x", Failed(NO, retryable=False), scope=scope)
    assert not settlement.fatal
    assert [(each.step_id, each.phase) for each in settlement.next] == [("~undo/y", Phase.NEW)]
