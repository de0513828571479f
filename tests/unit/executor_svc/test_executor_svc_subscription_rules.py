"""Which subscriptions there may be, which events they want, and how events are written."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from executor_svc.subscriptions import rules
from executor_svc.subscriptions.deliveries import webhook_graph
from executor_svc.subscriptions.events import type_of, wants, write_event, write_ping
from executor_svc.subscriptions.interest import Interest
from executor_svc.subscriptions.records import Occurrence, Subscription, Webhook
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.api.executor.v1.graph_pb2 import WorkflowRef
from stepwire.errors import Reason, StepwireError
from stepwire.ids import uuid7

NOW = datetime(2026, 11, 21, 9, 0, 0, 500_000, tzinfo=UTC)
SUCCEEDED, FAILED, CANCELLED = (type_of(name) for name in ("SUCCEEDED", "FAILED", "CANCELLED"))


def subscription(**changes):
    webhook = Webhook("https://example.com", b"k" * 24, NOW)
    made = Subscription(
        subscription_id=uuid7(),
        tenant_id="tenant",
        name="name",
        events=[SUCCEEDED, FAILED],
        labels={},
        workflow="",
        target=webhook,
        include_output=False,
        paused=False,
        paused_because="",
        created_at=NOW - timedelta(days=1),
        updated_at=NOW,
    )
    return replace(made, **changes)


def occurrence(**changes):
    happened = Occurrence(
        tenant_id="tenant",
        task_id=uuid7(),
        cursor=7,
        type=SUCCEEDED,
        recorded_at=NOW,
        labels={"team": "a", "stage": "live"},
        workflow="report",
        workflow_version="3",
        failure={},
        depth=0,
    )
    return replace(happened, **changes)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, True),
        ({"events": [CANCELLED]}, False),
        ({"labels": {"team": "a"}}, True),
        ({"labels": {"team": "b"}}, False),
        ({"labels": {"team": "a", "stage": "test"}}, False),
        ({"labels": {"other": ""}}, False),
        ({"workflow": "report"}, True),
        ({"workflow": "repor"}, False),
        ({"paused": True}, False),
        ({"created_at": NOW}, True),
        ({"created_at": NOW + timedelta(microseconds=1)}, False),
    ],
)
def test_who_wants_an_event(changes, wanted):
    assert wants(subscription(**changes), occurrence()) is wanted


def test_tasks_with_an_inline_graph_run_no_workflow():
    assert wants(subscription(), occurrence(workflow=""))
    assert not wants(subscription(workflow="report"), occurrence(workflow=""))


def test_a_subscription_does_not_want_what_it_has_started():
    one, other = subscription(), subscription()
    started = occurrence(labels={"stepwire.subscription": str(one.subscription_id)})
    assert not wants(one, started)
    assert wants(other, started)


def test_an_event_in_json():
    happened = occurrence()
    assert json.loads(write_event(happened, None, limit_bytes=1000)) == {
        "type": "task.succeeded",
        "timestamp": "2026-11-21T09:00:00.500000Z",
        "data": {
            "task_id": str(happened.task_id),
            "cursor": 7,
            "state": "SUCCEEDED",
            "workflow": "report",
            "workflow_version": "3",
            "labels": {"team": "a", "stage": "live"},
        },
    }


def test_an_event_with_a_failure_and_little_else():
    failure = {"reason": "STEP_FAILED", "message": "no", "step_id": "a"}
    happened = occurrence(type=FAILED, failure=failure, labels={}, workflow="", workflow_version="")
    event = json.loads(write_event(happened, None, limit_bytes=1000))
    assert event["type"] == "task.failed"
    assert event["data"] == {
        "task_id": str(happened.task_id),
        "cursor": 7,
        "state": "FAILED",
        "failure": failure,
    }


@pytest.mark.parametrize("output", [b"null", b"0", b'{"a":[1,"\\u00e9"]}'])
def test_an_event_with_an_output(output):
    text = write_event(occurrence(), output, limit_bytes=1000)
    assert json.loads(text)["data"]["output"] == json.loads(output)
    assert write_event(occurrence(), output, limit_bytes=len(text)).startswith(text[:20])


def test_an_output_that_is_too_large():
    happened = occurrence()
    text = write_event(happened, b'"0123456789"', limit_bytes=10_000)
    assert write_event(happened, b'"0123456789"', limit_bytes=len(text)) == text
    omitted = json.loads(write_event(happened, b'"0123456789"', limit_bytes=len(text) - 1))
    assert "output" not in omitted["data"]
    assert omitted["data"]["output_omitted"] is True


@pytest.mark.parametrize(
    ("name", "written", "state"),
    [
        ("CANCELLED", "task.cancelled", "CANCELLED"),
        ("RETRIED", "task.retried", "RUNNING"),
        ("PAUSED", "task.paused", "PAUSED"),
        ("RESUMED", "task.resumed", "RUNNING"),
    ],
)
def test_the_other_events(name, written, state):
    happened = occurrence(type=type_of(name))
    event = json.loads(write_event(happened, None, limit_bytes=1000))
    assert (event["type"], event["data"]["state"]) == (written, state)


def test_a_ping():
    assert json.loads(write_ping(subscription(), NOW)) == {
        "type": "subscription.ping",
        "timestamp": "2026-11-21T09:00:00.500000Z",
        "data": {"subscription": "name"},
    }


def refusal(call, *arguments, **named):
    with pytest.raises(StepwireError) as caught:
        call(*arguments, **named)
    assert caught.value.reason is Reason.FIELD_INVALID
    return caught.value.metadata["field"]


@pytest.mark.parametrize("name", ["a", "a" * 63, "on-failure_2"])
def test_names(name):
    assert rules.check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a.b", "a b", "a" * 64, "a\n", "-a"])
def test_no_names(name):
    assert refusal(rules.check_name, name) == "name"


def test_events():
    assert rules.check_events([], field="events") == (SUCCEEDED, FAILED, CANCELLED)
    assert rules.check_events([5, 3, 5], field="events") == (SUCCEEDED, CANCELLED)
    for unknown in (0, 1, 2, 9, 11, 99):
        assert refusal(rules.check_events, [SUCCEEDED, unknown], field="events") == "events"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/hook?a=b",
        "https://example.com",
        "https://[::1]:80/",
        "https://example.com/" + "a" * 1980,
    ],
)
def test_urls(url):
    assert rules.check_url(url, field="url") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "https://",
        "https:///path",
        "https://user:word@example.com",
        "https://user@example.com",
        "https://example.com:port",
        "https://example.com:99999",
        "https://exam ple.com",
        "https://example.com/\n",
        "https://exämple.com",
        "https://[::1",
        "https://example.com/" + "a" * 1981,
    ],
)
def test_no_urls(url):
    assert refusal(rules.check_url, url, field="url") == "url"


def test_templates():
    rules.check_template(CreateTaskRequest(labels={"a": "b"}, priority=2), field="task")
    many = {str(number): "" for number in range(15)}
    assert refusal(rules.check_template, CreateTaskRequest(labels=many), field="task") == (
        "task.labels"
    )
    own = CreateTaskRequest(labels={"stepwire.task": ""})
    assert refusal(rules.check_template, own, field="task") == "task.labels['stepwire.task']"


def test_what_a_template_must_leave_to_the_server():
    requests = {
        "input": CreateTaskRequest(),
        "request_id": CreateTaskRequest(request_id="a"),
        "start_after": CreateTaskRequest(workflow=WorkflowRef(name="a")),
        "validate_only": CreateTaskRequest(validate_only=True),
    }
    requests["input"].input.SetInParent()
    requests["start_after"].start_after.GetCurrentTime()
    for name, request in requests.items():
        assert refusal(rules.check_template, request, field="task") == f"task.{name}"


def test_overlaps():
    assert rules.check_overlap(None) == timedelta(hours=24)
    for span in (timedelta(0), timedelta(days=7)):
        assert rules.check_overlap(span) == span
    for span in (timedelta(seconds=-1), timedelta(days=7, microseconds=1)):
        assert refusal(rules.check_overlap, span) == "overlap"


def test_the_same_request_has_the_same_digest():
    one = CreateTaskRequest(labels={"a": "1", "b": "2"})
    same = CreateTaskRequest(labels={"b": "2", "a": "1"})
    assert rules.digest_of(one) == rules.digest_of(same)
    assert rules.digest_of(one) != rules.digest_of(CreateTaskRequest())
    # An empty message is the same text as any other empty one.
    assert rules.digest_of(CreateTaskRequest()) != rules.digest_of(WorkflowRef())


def test_keys_that_sign():
    alone = Webhook("", b"new", NOW)
    assert alone.keys(NOW) == [b"new"]
    rotated = replace(alone, previous_key=b"old", previous_until=NOW)
    assert rotated.keys(NOW - timedelta(seconds=1)) == [b"new", b"old"]
    assert rotated.keys(NOW) == [b"new"]


def test_keys_are_not_shown():
    assert "kkk" not in repr(subscription())


def test_a_delivery_is_tried_for_most_of_a_day():
    (step,) = webhook_graph(uuid7(), at_once=3).steps
    policy = step.retry
    waits = [
        min(
            policy.initial_backoff.ToTimedelta() * policy.multiplier**number,
            policy.max_backoff.ToTimedelta(),
        )
        for number in range(policy.max_attempts - 1)
    ]
    longest = sum(waits, timedelta(0))
    assert timedelta(hours=18) < longest * (1 - policy.jitter) < longest < timedelta(hours=24)


class Tenants:
    """The part of a store that `Interest` asks."""

    def __init__(self):
        self.found = set()
        self.fails = False

    async def tenants(self):
        if self.fails:
            raise ConnectionError
        return self.found


async def test_interest_is_known_from_the_last_look():
    now = [100.0]
    store = Tenants()
    interest = Interest(store, clock=lambda: now[0])
    assert interest.has("a"), "nothing is known yet"
    store.found = {"b"}
    await interest.refresh()
    assert interest.has("b")
    assert not interest.has("a")
    store.found = {"a"}
    now[0] += 1.4
    assert not interest.has("a")
    # A look that is too old says nothing about who has come since.
    now[0] += 0.1
    assert interest.has("a")
    store.fails = True
    with pytest.raises(ConnectionError):
        await interest.refresh()
    assert interest.has("a")
    assert interest.has("c")
