"""Webhooks: events of tasks that reach a real server, signed, once or more, never lost."""

from datetime import UTC, datetime, timedelta

import pytest

from executor_svc.subscriptions import deliveries
from stepwire.api.executor.v1.executor_service_pb2 import PauseTaskRequest, ResumeTaskRequest
from stepwire.api.executor.v1.graph_pb2 import ConcurrencyPolicy
from stepwire.ids import uuid7
from stepwire.sdk.webhooks import SignatureError, new_secret
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    graph,
    held_steps,
    python,
    state_of,
    steps_of,
    transform,
)
from tests.integration.executor_svc.subscription_client import (
    LABEL,
    events_of,
    subscription_client,
)
from tests.integration.executor_svc.subscription_fixtures import quick, receiver, subscriptions

__all__ = ["quick", "receiver", "subscriptions"]

ONE = graph(transform("one", "1"))
FAILING = graph(python("bad", "fail_permanently", retry=NO_RETRY))


async def test_the_end_of_a_task_is_delivered_and_signed(subscriptions, receiver):
    created = await subscriptions.webhook("hook", receiver.url)
    task = await subscriptions.tasks.run(ONE, labels={"team": "a"})
    (request,) = await receiver.got()
    delivery = request.verified(created.secret)
    assert delivery.event == {
        "type": "task.succeeded",
        "timestamp": task.end_time.ToDatetime(UTC).isoformat().replace("+00:00", "Z"),
        "data": {
            "task_id": task.task_id,
            "cursor": task.last_cursor,
            "state": "SUCCEEDED",
            "labels": {"team": "a"},
        },
    }
    assert request.path == "/hook"
    assert request.headers["content-type"] == "application/json"
    (done,) = await subscriptions.deliveries(created.subscription)
    assert delivery.webhook_id == done.task_id
    assert state_of(done) == "SUCCEEDED"
    assert done.labels == {
        LABEL: created.subscription.subscription_id,
        "stepwire.task": task.task_id,
    }
    with pytest.raises(SignatureError):
        request.verified(new_secret())


async def test_failures_and_cancellations_are_events(subscriptions, receiver, tmp_path):
    await subscriptions.webhook("hook", receiver.url)
    failed = await subscriptions.tasks.run(FAILING, {})
    (request,) = await receiver.got()
    assert request.event["type"] == "task.failed"
    failure = request.event["data"]["failure"]
    assert failure["reason"] == failed.failure.reason
    assert failure["step_id"] == "bad"
    assert "never work" in failure["message"]
    what, value, path, _ = held_steps(tmp_path, 1)
    task_id = await subscriptions.tasks.create(what, value)
    await eventually(lambda: len(noted(path)) == 2, WAIT_SECONDS)
    await subscriptions.tasks.cancel(task_id)
    _, request = await receiver.got(2)
    assert request.event["type"] == "task.cancelled"
    assert request.event["data"]["task_id"] == task_id
    assert request.event["data"]["state"] == "CANCELLED"


def _undone():
    return graph(
        transform("done", "1", compensation={"python": {"function": "test.echo"}}),
        python("bad", "fail_permanently", depends_on=["done"], retry=NO_RETRY),
    )


def _late():
    late = graph({"name": "wait", "wait_signal": {"name": "never"}})
    late.timeout.FromMilliseconds(100)
    return late


@pytest.mark.parametrize(
    ("what", "event", "reason"),
    [
        (_undone(), "task.failed", "STEP_FAILED"),
        (_late(), "task.failed", "TASK_TIMED_OUT"),
        (graph(transform("skipped", "1", when="false")), "task.succeeded", ""),
    ],
)
async def test_every_way_to_end_is_told(subscriptions, receiver, what, event, reason):
    """Each of these is recorded by another transition."""
    await subscriptions.webhook("hook", receiver.url)
    task = await subscriptions.tasks.run(what, {})
    (request,) = await receiver.got()
    assert request.event["type"] == event
    assert request.event["data"].get("failure", {}).get("reason", "") == reason
    assert request.event["data"]["cursor"] == task.last_cursor


async def test_a_task_without_a_place_is_cancelled(subscriptions, receiver):
    keyed = graph({"name": "wait", "wait_signal": {"name": "never"}})
    keyed.concurrency.key = "'one'"
    keyed.concurrency.policy = ConcurrencyPolicy.CONCURRENCY_POLICY_CANCEL_NEWEST
    await subscriptions.webhook("hook", receiver.url)
    first = await subscriptions.tasks.create(keyed)
    await subscriptions.tasks.until(first, "wait", "WAITING")
    second = await subscriptions.tasks.run(keyed)
    (request,) = await receiver.got()
    assert request.event["type"] == "task.cancelled"
    assert request.event["data"]["task_id"] == second.task_id
    await subscriptions.tasks.cancel(first)
    await receiver.got(2)


async def test_a_task_that_is_retried_has_two_ends(subscriptions, receiver, tmp_path):
    await subscriptions.webhook("hook", receiver.url)
    needs, path = tmp_path / "needs", tmp_path / "notes"
    what = graph(python("a", "need_file", retry=NO_RETRY))
    value = {"path": str(path), "needs": str(needs)}
    task_id = await subscriptions.tasks.create(what, value)
    await receiver.got(1)
    needs.touch()
    await subscriptions.tasks.retry(task_id)
    first, second = await receiver.got(2)
    assert (first.event["type"], second.event["type"]) == ("task.failed", "task.succeeded")
    assert first.event["data"]["cursor"] < second.event["data"]["cursor"]


async def test_what_is_done_with_a_task_is_an_event_too(subscriptions, receiver, tmp_path):
    await subscriptions.webhook(
        "hook", receiver.url, events=events_of("PAUSED", "RESUMED", "RETRIED")
    )
    what, value, path, go = held_steps(tmp_path, 1)
    task_id = await subscriptions.tasks.create(what, value)
    await eventually(lambda: len(noted(path)) == 2, WAIT_SECONDS)
    await subscriptions.tasks.call("PauseTask", PauseTaskRequest(task_id=task_id))
    await receiver.got(1)
    await subscriptions.tasks.call("ResumeTask", ResumeTaskRequest(task_id=task_id))
    await receiver.got(2)
    go.touch()
    await subscriptions.tasks.wait(task_id)
    failed = await subscriptions.tasks.run(FAILING, {})
    await subscriptions.tasks.retry(failed.task_id)
    events = [request.event for request in await receiver.got(3)]
    assert [(event["type"], event["data"]["state"]) for event in events] == [
        ("task.paused", "PAUSED"),
        ("task.resumed", "RUNNING"),
        ("task.retried", "RUNNING"),
    ]
    assert events[1]["data"]["task_id"] == task_id
    assert events[2]["data"]["task_id"] == failed.task_id


async def test_only_what_was_asked_for(subscriptions, receiver):
    labels = {"team": "a", "stage": "live"}
    await subscriptions.webhook(
        "hook", receiver.url, events=events_of("FAILED"), labels={"team": "a"}
    )
    await subscriptions.webhook("other", receiver.url, workflow="another")
    await subscriptions.tasks.run(ONE, labels=labels)
    await subscriptions.tasks.run(FAILING, {})
    await subscriptions.tasks.run(FAILING, {}, labels={"team": "b"})
    task = await subscriptions.tasks.run(FAILING, {}, labels=labels)
    (request,) = await receiver.got()
    assert request.event["data"]["task_id"] == task.task_id


async def test_every_subscription_gets_the_event(subscriptions, receiver):
    secrets = [
        (await subscriptions.webhook(name, f"{receiver.url}/{name}")).secret for name in "abc"
    ]
    await subscriptions.tasks.run(ONE)
    requests = await receiver.got(3)
    assert sorted(request.path for request in requests) == ["/hook/a", "/hook/b", "/hook/c"]
    for request in requests:
        assert request.verified(secrets["abc".index(request.path[-1])])


async def test_tenants_get_their_own_events(subscriptions, receiver):
    other = subscriptions.of(f"tenant-{uuid7()}")
    mine = await subscriptions.webhook("hook", f"{receiver.url}/mine")
    theirs = await other.webhook("hook", f"{receiver.url}/theirs")
    my_task = await subscriptions.tasks.run(ONE)
    their_task = await other.tasks.run(ONE)
    await subscriptions.of(f"tenant-{uuid7()}").tasks.run(ONE)
    by_path = {request.path: request for request in await receiver.got(2)}
    got = by_path["/hook/mine"].verified(mine.secret).event
    assert got["data"]["task_id"] == my_task.task_id
    got = by_path["/hook/theirs"].verified(theirs.secret).event
    assert got["data"]["task_id"] == their_task.task_id
    assert await other.started(mine.subscription) == []


async def test_deliveries_are_no_events(subscriptions, receiver):
    created = await subscriptions.webhook("hook", receiver.url)
    other = await subscriptions.webhook("other", receiver.url)
    for _ in range(3):
        await subscriptions.tasks.run(ONE)
    await subscriptions.deliveries(created.subscription, 3)
    await subscriptions.deliveries(other.subscription, 3)
    await subscriptions.ping("hook")
    await receiver.got(7)


async def test_what_happened_before_is_not_delivered(subscriptions, receiver):
    await subscriptions.tasks.run(ONE)
    await subscriptions.webhook("hook", receiver.url)
    task = await subscriptions.tasks.run(ONE)
    (request,) = await receiver.got()
    assert request.event["data"]["task_id"] == task.task_id


async def test_a_receiver_that_was_down_gets_it_later(subscriptions, receiver, quick):
    created = await subscriptions.webhook("hook", receiver.url)
    await receiver.down()
    await subscriptions.tasks.run(ONE)

    async def tried() -> bool:
        return any(task.HasField("start_time") for task in await _started(subscriptions, created))

    await eventually(tried, WAIT_SECONDS)
    (task,) = await _started(subscriptions, created)
    await eventually(
        lambda: _attempt_reached(subscriptions, task.task_id, 3),
        WAIT_SECONDS,
    )
    await receiver.up()
    (request,) = await receiver.got()
    (done,) = await subscriptions.deliveries(created.subscription)
    assert request.verified(created.secret).webhook_id == done.task_id
    assert steps_of(done)["deliver"].failure.metadata == {"exception": "ConnectError"}


async def _started(subscriptions, created):
    return await subscriptions.started(created.subscription)


async def _attempt_reached(subscriptions, task_id, attempt):
    return (await subscriptions.tasks.step(task_id, "deliver")).attempt >= attempt


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 408, 429, 500, 503])
async def test_everything_but_success_is_tried_again(subscriptions, receiver, quick, status):
    created = await subscriptions.webhook("hook", receiver.url)
    receiver.says(status, b"not now", Location=f"{receiver.url}/elsewhere")
    receiver.says(status)
    await subscriptions.tasks.run(ONE)
    requests = await receiver.got(3)
    assert [request.path for request in requests] == ["/hook"] * 3
    (done,) = await subscriptions.deliveries(created.subscription)
    step = steps_of(done)["deliver"]
    assert (state_of(done), step.attempt) == ("SUCCEEDED", 3)
    assert step.failure.metadata == {"http_status": str(status)}
    # The same event, each time signed anew.
    sent = [request.verified(created.secret) for request in requests]
    assert {delivery.webhook_id for delivery in sent} == {done.task_id}
    assert len({request.body for request in requests}) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_success(subscriptions, receiver, status):
    created = await subscriptions.webhook("hook", receiver.url)
    receiver.says(status)
    await subscriptions.tasks.run(ONE)
    (done,) = await subscriptions.deliveries(created.subscription)
    assert state_of(done) == "SUCCEEDED"
    assert steps_of(done)["deliver"].attempt == 1


async def test_the_first_wait_and_retry_after(subscriptions, receiver):
    created = await subscriptions.webhook("hook", receiver.url)
    for wait in ({}, {"Retry_After": "3600"}):
        receiver.says(503, b"later", **wait)
        await subscriptions.tasks.run(ONE)
        task = (await _until_started(subscriptions, created, 2 if wait else 1))[-1]
        step = await subscriptions.tasks.until(task.task_id, "deliver", "WAITING")
        waits = step.wait_until.ToDatetime() - step.start_time.ToDatetime()
        shortest, longest = (3600, 3700) if wait else (4, 5.9)
        assert timedelta(seconds=shortest) <= waits < timedelta(seconds=longest)
        assert step.failure.message == "HTTP 503: later"


async def _until_started(subscriptions, created, count):
    async def enough():
        tasks = await _started(subscriptions, created)
        return tasks if len(tasks) == count else None

    return await eventually(enough, WAIT_SECONDS)


async def test_a_long_refusal_is_cut(subscriptions, receiver, quick, monkeypatch):
    monkeypatch.setattr(deliveries, "ATTEMPTS", 1)
    created = await subscriptions.webhook("hook", receiver.url)
    receiver.says(500, b"x" * 100_000)
    await subscriptions.tasks.run(ONE)
    (done,) = await subscriptions.deliveries(created.subscription)
    assert done.failure.message == "HTTP 500: " + "x" * 500


async def test_a_receiver_that_is_slow(subscriptions, receiver, quick, monkeypatch):
    monkeypatch.setattr(deliveries, "TIMEOUT", timedelta(milliseconds=100))
    created = await subscriptions.webhook("hook", receiver.url)
    release = receiver.hold()
    await subscriptions.tasks.run(ONE)
    await eventually(lambda: len(receiver.requests) >= 2, WAIT_SECONDS)
    release()
    (done,) = await subscriptions.deliveries(created.subscription)
    step = steps_of(done)["deliver"]
    assert (state_of(done), step.failure.reason) == ("SUCCEEDED", "STEP_TIMED_OUT")
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_after_the_last_attempt_it_can_be_replayed(
    subscriptions, receiver, quick, monkeypatch
):
    monkeypatch.setattr(deliveries, "ATTEMPTS", 2)
    created = await subscriptions.webhook("hook", receiver.url)
    receiver.says(500)
    receiver.says(500)
    await subscriptions.tasks.run(ONE)
    (failed,) = await subscriptions.deliveries(created.subscription)
    assert (state_of(failed), failed.failure.metadata) == ("FAILED", {"http_status": "500"})
    await receiver.got(2)
    await subscriptions.tasks.retry(failed.task_id)
    requests = await receiver.got(3)
    assert {request.headers["webhook-id"] for request in requests} == {failed.task_id}
    assert requests[2].verified(created.secret).event == requests[0].event


async def test_gone_pauses_the_subscription(subscriptions, receiver, quick):
    created = await subscriptions.webhook("hook", receiver.url)
    receiver.says(410, b"no more")
    await subscriptions.tasks.run(ONE)
    (failed,) = await subscriptions.deliveries(created.subscription)
    assert failed.failure.message == "HTTP 410: no more"
    assert steps_of(failed)["deliver"].attempt == 1
    found = await subscriptions.get("hook")
    assert (found.paused, found.paused_because) == (True, "the receiver answered 410 Gone")
    assert await subscriptions.update("hook", "paused", paused=True) == await subscriptions.get(
        "hook"
    )
    resumed = await subscriptions.update("hook", "paused", paused=False)
    assert (resumed.paused, resumed.paused_because) == (False, "")
    await subscriptions.tasks.retry(failed.task_id)
    await receiver.got(2)


async def test_a_paused_subscription_lets_events_pass(subscriptions, receiver):
    created = await subscriptions.webhook("hook", receiver.url)
    other = await subscriptions.webhook("other", f"{receiver.url}/other")
    await subscriptions.update("hook", "paused", paused=True)
    await subscriptions.tasks.run(ONE)
    await subscriptions.deliveries(other.subscription)
    assert await subscriptions.started(created.subscription) == []
    await subscriptions.update("hook", "paused", paused=False)
    await subscriptions.tasks.run(ONE)
    await subscriptions.deliveries(created.subscription)


@pytest.mark.parametrize("ends", ["SUBSCRIPTION_PAUSED", "SUBSCRIPTION_NOT_FOUND"])
async def test_a_delivery_under_way_ends_with_its_subscription(
    subscriptions, receiver, quick, ends
):
    created = await subscriptions.webhook("hook", receiver.url)
    await receiver.down()
    await subscriptions.tasks.run(ONE)
    (task,) = await _until_started(subscriptions, created, 1)
    await eventually(lambda: _attempt_reached(subscriptions, task.task_id, 2), WAIT_SECONDS)
    if ends == "SUBSCRIPTION_PAUSED":
        await subscriptions.update("hook", "paused", paused=True)
    else:
        await subscriptions.delete("hook")
    failed = await subscriptions.tasks.wait(task.task_id)
    assert failed.failure.reason == ends
    assert failed.failure.metadata.keys() == {"subscription"}
    await receiver.up()


async def test_an_attempt_uses_the_address_that_holds_then(subscriptions, receiver, quick):
    created = await subscriptions.webhook("hook", "http://127.0.0.1:1/nobody")
    await subscriptions.tasks.run(ONE)
    (task,) = await _until_started(subscriptions, created, 1)
    await eventually(lambda: _attempt_reached(subscriptions, task.task_id, 2), WAIT_SECONDS)
    webhook = type(created.subscription.webhook)(url=receiver.url)
    await subscriptions.update("hook", "webhook.url", webhook=webhook)
    (request,) = await receiver.got()
    assert request.verified(created.secret)


async def test_a_ping(subscriptions, receiver):
    created = await subscriptions.webhook("hook", receiver.url)
    await subscriptions.update("hook", "paused", paused=True)
    ids = {await subscriptions.ping("hook", request_id="same") for _ in range(3)}
    assert len(ids) == 1
    (request,) = await receiver.got()
    event = request.verified(created.secret).event
    assert (event["type"], event["data"]) == ("subscription.ping", {"subscription": "hook"})
    assert abs(datetime.fromisoformat(event["timestamp"]) - datetime.now(UTC)) < timedelta(
        minutes=1
    )
    await subscriptions.ping("hook")
    await receiver.got(2)
    for task in await subscriptions.deliveries(created.subscription, 2):
        assert state_of(task) == "SUCCEEDED"
        assert task.labels == {LABEL: created.subscription.subscription_id}


async def test_an_output_goes_with_the_event_if_wanted(subscriptions, receiver):
    await subscriptions.webhook("with", receiver.url, include_output=True)
    what = graph(python("echo", "echo"))
    value = {"a": [1, 2.5, "é", None], "empty": {}}
    await subscriptions.tasks.run(what, value)
    (request,) = await receiver.got()
    assert request.event["data"]["output"] == value
    await subscriptions.tasks.run(graph(python("big", "big")), 1024 * 1024 - 2)
    _, request = await receiver.got(2)
    assert request.event["data"]["output_omitted"] is True
    assert "output" not in request.event["data"]
    await subscriptions.tasks.run(FAILING, {})
    *_, request = await receiver.got(3)
    assert "output" not in request.event["data"]


async def test_private_addresses_are_refused(mesh, receiver, quick):
    async with (
        mesh.worker(http_allow_private=False),
        subscription_client(mesh.server.address, mesh.client) as subscriptions,
    ):
        created = await subscriptions.webhook("hook", receiver.url)
        await subscriptions.tasks.run(ONE)
        (failed,) = await subscriptions.deliveries(created.subscription)
        assert failed.failure.reason == "FIELD_INVALID"
        assert failed.failure.metadata == {"field": "url", "address": "127.0.0.1"}
    assert receiver.requests == []
