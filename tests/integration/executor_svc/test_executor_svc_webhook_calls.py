"""Calls of a webhook that are under way: how many, and what changes meanwhile."""

import json

from stepwire.api.executor.v1 import subscription_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2 import BatchCreateTasksRequest
from stepwire.payload import MAX_NESTING
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    create_request,
    graph,
    state_of,
    transform,
)
from tests.integration.executor_svc.subscription_fixtures import quick, receiver, subscriptions

__all__ = ["quick", "receiver", "subscriptions"]

ONE = graph(transform("one", "1"))


async def test_a_webhook_is_called_by_few_at_a_time(subscriptions, receiver):
    go_on = receiver.hold()
    created = await subscriptions.webhook("hook", receiver.url)
    batch = BatchCreateTasksRequest(requests=[create_request(ONE) for _ in range(12)])
    await subscriptions.tasks.call("BatchCreateTasks", batch)

    async def wait_for_their_turn():
        started = await subscriptions.started(created.subscription)
        tasks = [await subscriptions.tasks.get(task.task_id) for task in started]
        return sum(task.steps[0].waits_for.startswith("limit:") for task in tasks) == 2

    await eventually(wait_for_their_turn, WAIT_SECONDS)
    await receiver.got(10)
    go_on()
    for task in await subscriptions.deliveries(created.subscription, 12):
        assert state_of(task) == "SUCCEEDED"
    await receiver.got(12)


async def test_a_receiver_that_has_moved_does_not_pause_its_subscription(
    subscriptions, receiver, quick
):
    go_on = receiver.hold()
    created = (await subscriptions.webhook("hook", receiver.url)).subscription
    receiver.says(410)
    await subscriptions.tasks.run(ONE)
    await receiver.got(1)
    moved = pb.Webhook(url=f"{receiver.url}/moved")
    await subscriptions.update("hook", "webhook.url", webhook=moved)
    go_on()
    (delivered,) = await subscriptions.deliveries(created)
    assert state_of(delivered) == "SUCCEEDED"
    assert not (await subscriptions.get("hook")).paused
    assert [request.path for request in receiver.requests] == ["/hook", "/hook/moved"]


async def test_an_output_that_is_nested_too_deep_is_left_out(subscriptions, receiver):
    """An event is a task's input, in which the output stands two levels deeper."""
    await subscriptions.webhook("hook", receiver.url, include_output=True)
    what = graph(transform("nested", "input"))
    for levels, whole in ((MAX_NESTING - 2, True), (MAX_NESTING, False)):
        value = json.loads("[" * levels + "]" * levels)
        await subscriptions.tasks.run(what, value)
        request = (await receiver.got(1 if whole else 2))[-1]
        data = request.event["data"]
        assert data.get("output") == (value if whole else None)
        assert data.get("output_omitted", False) is not whole
    assert not (await subscriptions.get("hook")).paused
