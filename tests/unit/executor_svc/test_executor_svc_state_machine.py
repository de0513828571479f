"""What follows from how an attempt ended."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from executor_svc.compile import GraphLimits, compile_graph
from executor_svc.records import Attempt, Blob, Failure, StepState, TaskContext
from executor_svc.state_machine import Expanded, Failed, Succeeded, settle
from stepwire.api.executor.v1 import graph_pb2
from stepwire.ids import uuid7

LIMITS = GraphLimits(max_steps=100, max_bytes=2**20, queues=None)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE = Blob(b"1", "application/json")
TASK = TaskContext(uuid7(), "default", b"", ONE, "")
NO = Failure("STEP_FAILED", "no")


def graph(**dependencies):
    """Compile `name=fields`, or `name="dependency dependency"`."""
    message = graph_pb2.Graph()
    for name, fields in dependencies.items():
        given = {"depends_on": fields.split()} if isinstance(fields, str) else fields
        message.steps.add(name=name, transform={"expression": "1"}, **given)
    return compile_graph(message, limits=LIMITS)


def settled(made, name, outcome, *, claims=1, **fields):
    base = name.partition("[")[0]
    attempt = Attempt(TASK, name, made.by_name[base].ordinal, fields.pop("attempt", 1), **fields)
    return settle(made, attempt, outcome, now=NOW, rng=random.Random(3), claims=claims)


def test_the_only_successor_is_continued_with():
    settlement = settled(graph(a="", b="a"), "a", Succeeded(ONE))
    assert settlement.state == StepState.SUCCEEDED
    assert settlement.output == ONE
    assert [(each.step_id, each.claim) for each in settlement.next] == [("b", True)]
    assert not settlement.joins
    assert not settlement.sink
    assert json.loads(settlement.event) == [11, "a", 1]


@pytest.mark.parametrize(
    ("made", "claims"),
    [
        (graph(a="", b="a"), False),
        (graph(a="", b={"depends_on": ["a"], "queue": "other"}), True),
    ],
    ids=["draining", "other-queue"],
)
def test_a_successor_that_is_left_to_others(made, claims):
    settlement = settled(made, "a", Succeeded(ONE), claims=claims)
    assert [(each.step_id, each.claim) for each in settlement.next] == [("b", False)]


def test_a_fork_is_left_to_others():
    settlement = settled(graph(a="", b="a", c="a"), "a", Succeeded(ONE))
    assert [(each.step_id, each.claim) for each in settlement.next] == [("b", False), ("c", False)]


def test_a_join_counts_its_steps():
    settlement = settled(graph(a="", b="", c="a b"), "a", Succeeded(ONE))
    assert not settlement.next
    assert [(each.step_id, each.claim) for each in settlement.joins] == [("c", True)]


def test_a_fork_into_a_step_and_a_join():
    settlement = settled(graph(a="", b="", c="a b", d="a"), "a", Succeeded(ONE))
    assert [(each.step_id, each.claim) for each in settlement.next] == [("d", False)]
    assert [(each.step_id, each.claim) for each in settlement.joins] == [("c", False)]


def test_a_last_step_is_a_sink():
    assert settled(graph(a=""), "a", Succeeded(ONE)).sink


EACH = graph(each={"for_each": "[1]"}, after="each")


def test_items_are_started():
    settlement = settled(EACH, "each", Expanded([b"1", b"2"]))
    assert settlement.state == StepState.WAITING
    assert settlement.items == 2
    assert settlement.due_at is None
    assert [(e.step_id, e.item, e.input, e.claim) for e in settlement.next] == [
        ("each[0]", 0, b"1", False),
        ("each[1]", 1, b"2", False),
    ]
    assert json.loads(settlement.event) == [15, "each", 1, {"items": 2}]


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
    assert NOW + timedelta(seconds=0.5) <= settlement.due_at <= NOW + timedelta(seconds=1)
    assert not settlement.next
    assert not settlement.joins
    assert json.loads(settlement.event) == [12, "a", 4, {"reason": "STEP_FAILED", "message": "no"}]


@pytest.mark.parametrize(
    ("outcome", "failures"),
    [(Failed(NO, retryable=False), 0), (Failed(NO), 2)],
    ids=["not-retryable", "last-attempt"],
)
def test_a_failure_for_good(outcome, failures):
    settlement = settled(graph(a="", b="a"), "a", outcome, failures=failures)
    assert settlement.state == StepState.FAILED
    assert settlement.due_at is None
    assert not settlement.next
    assert json.loads(settlement.event)[0] == 13


@pytest.mark.parametrize(("after", "wait"), [(timedelta(hours=1), 3600), (timedelta(0), 0.25)])
def test_the_failure_may_ask_for_a_longer_wait(after, wait):
    settlement = settled(graph(a=""), "a", Failed(NO, retry_after=after))
    assert (settlement.due_at - NOW).total_seconds() >= wait


@pytest.mark.parametrize("outcome", [Succeeded(ONE), Failed(NO), Failed(NO, retryable=False)])
def test_no_outcome_changes_the_attempt(outcome):
    settlement = settled(graph(a=""), "a", outcome, attempt=7)
    assert settlement.attempt.attempt == 7
    assert json.loads(settlement.event)[1:3] == ["a", 7]
