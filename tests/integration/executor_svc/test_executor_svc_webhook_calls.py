"""How many calls of a webhook are under way at a time."""

from stepwire.api.executor.v1.executor_service_pb2 import BatchCreateTasksRequest
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    create_request,
    graph,
    state_of,
    transform,
)
from tests.integration.executor_svc.subscription_fixtures import receiver, subscriptions

__all__ = ["receiver", "subscriptions"]

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
