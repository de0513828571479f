"""Handlers: tasks that are started by the events of others, and never without end."""

from executor_svc.subscriptions.deliveries import MAX_DEPTH
from executor_svc.tasks.starter import TaskStarter
from stepwire.api.executor.v1 import subscription_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.api.executor.v1.graph_pb2 import WorkflowRef
from stepwire.api.executor.v1.workflow_service_pb2 import WorkflowDefaults
from stepwire.errors import Reason, StepwireError
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    graph,
    output_of,
    python,
    refused,
    state_of,
    transform,
)
from tests.integration.executor_svc.subscription_client import LABEL, events_of
from tests.integration.executor_svc.subscription_fixtures import receiver, subscriptions
from tests.integration.executor_svc.workflow_client import workflow_client

__all__ = ["receiver", "subscriptions"]

ONE = graph(transform("one", "1"))
HANDLE = graph(transform("handle", "{'type': input.type, 'of': input.data.task_id}"))


async def test_a_task_is_started_with_the_event(subscriptions):
    task = CreateTaskRequest(graph=HANDLE, labels={"mine": "1"})
    handler = pb.Handler(task=task)
    created = (await subscriptions.create("handler", handler=handler)).subscription
    cause = await subscriptions.tasks.run(ONE)
    (started,) = await subscriptions.deliveries(created)
    assert output_of(started) == {"type": "task.succeeded", "of": cause.task_id}
    assert started.labels == {
        "mine": "1",
        LABEL: created.subscription_id,
        "stepwire.task": cause.task_id,
    }


async def test_a_handler_of_failures_sees_why(subscriptions):
    what = graph(transform("why", "input.data.failure.step_id + ': ' + input.data.failure.reason"))
    created = await subscriptions.handler("handler", what, events=events_of("FAILED"))
    await subscriptions.tasks.run(graph(python("bad", "fail_permanently", retry=NO_RETRY)), {})
    (started,) = await subscriptions.deliveries(created)
    assert output_of(started) == "bad: STEP_FAILED"


async def test_outputs_feed_the_next_task(subscriptions):
    what = graph(transform("next", "input.data.output.n + 1"))
    created = await subscriptions.handler("next", what, include_output=True)
    await subscriptions.tasks.run(graph(transform("first", "{'n': 41}")))
    (started,) = await subscriptions.deliveries(created)
    assert output_of(started) == 42


async def test_a_handler_does_not_handle_itself(subscriptions, receiver):
    """It wants every end of every task, also when it fails."""
    created = await subscriptions.handler("all", graph(transform("bad", "input.nothing")))
    await subscriptions.webhook("witness", receiver.url, events=events_of("FAILED"))
    for count in (1, 2):
        cause = await subscriptions.tasks.run(ONE)
        *_, started = await subscriptions.deliveries(created, count)
        assert state_of(started) == "FAILED"
        assert started.labels["stepwire.task"] == cause.task_id
        # Others see that it has failed.
        *_, request = await receiver.got(count)
        assert request.event["data"]["task_id"] == started.task_id
    assert len(await subscriptions.started(created)) == 2


async def test_handlers_that_cause_each_other_end(subscriptions):
    one = await subscriptions.handler("one", HANDLE)
    other = await subscriptions.handler("other", HANDLE)
    first = await subscriptions.tasks.run(ONE)

    async def all_started():
        return [*await subscriptions.started(one), *await subscriptions.started(other)]

    async def complete():
        # Both handle the first task, and then each what the other does.
        return len(await all_started()) == 2 * MAX_DEPTH

    await eventually(complete, WAIT_SECONDS)
    tasks = {task.task_id: task for task in await all_started()}
    for task_id in tasks:
        assert state_of(await subscriptions.tasks.wait(task_id)) == "SUCCEEDED"

    def depth(task_id: str) -> int:
        return 0 if task_id == first.task_id else 1 + depth(tasks[task_id].labels["stepwire.task"])

    assert sorted(depth(task_id) for task_id in tasks) == sorted([*range(1, MAX_DEPTH + 1)] * 2)
    # One that is started afterwards is handled as the first was: nothing is left behind.
    await subscriptions.tasks.run(ONE)

    async def twice():
        return len(await all_started()) == 4 * MAX_DEPTH

    await eventually(twice, WAIT_SECONDS)


async def test_subtasks_do_not_hide_a_chain(subscriptions, receiver):
    """A subtask does not carry the label of the subscription that has started its parent."""
    what = graph({"name": "outer", "subtask": {"graph": graph(transform("inner", "1"))}})
    await subscriptions.webhook("witness", receiver.url)

    outer: set[str] = set()

    async def worker_knows() -> bool:
        """Whether the events of a subtask, which a worker creates, are told."""
        outer.add((await subscriptions.tasks.run(what)).task_id)
        heard_of = {request.event["data"]["task_id"] for request in receiver.requests}
        return bool(heard_of - outer)

    await eventually(worker_knows, WAIT_SECONDS)
    created = await subscriptions.handler("handler", what)
    await subscriptions.tasks.run(ONE)
    # Handlers at depths 1, 3, 5, 7; the subtask of the last has all 8 tasks above it.
    tasks = await subscriptions.deliveries(created, MAX_DEPTH // 2)
    assert {state_of(task) for task in tasks} == {"SUCCEEDED"}
    assert {output_of(task) for task in tasks} == {1}


async def test_workflows_are_started_and_told_apart(subscriptions, shared_mesh):
    async with workflow_client(shared_mesh.server.address, subscriptions.tasks.tenant) as workflows:
        await workflows.register("cause", ONE, "1")
        await workflows.register("effect", HANDLE, "1")
        newer = graph(transform("handle", "'from version ' + input.data.workflow_version"))
        handler = pb.Handler(task=CreateTaskRequest(workflow=WorkflowRef(name="effect")))
        created = (
            await subscriptions.create("handler", handler=handler, workflow="cause")
        ).subscription
        await workflows.register("effect", newer, "2")
        await subscriptions.tasks.run(ONE)
        request = CreateTaskRequest(workflow=WorkflowRef(name="cause"))
        cause = (await subscriptions.tasks.call("CreateTask", request)).task
        (started,) = await subscriptions.deliveries(created)
        assert started.labels["stepwire.task"] == cause.task_id
        assert (started.workflow.name, started.workflow.version) == ("effect", "2")
        assert output_of(started) == "from version 1"


async def test_a_workflow_that_is_not_there_is_refused(subscriptions):
    handler = pb.Handler(task=CreateTaskRequest(workflow=WorkflowRef(name="nowhere")))
    async with refused() as error:
        await subscriptions.create("handler", handler=handler)
    assert error().reason == "WORKFLOW_NOT_FOUND"
    assert await subscriptions.names() == []


async def test_a_handler_whose_workflow_is_retired_is_paused(subscriptions, shared_mesh):
    async with workflow_client(shared_mesh.server.address, subscriptions.tasks.tenant) as workflows:
        await workflows.register("effect", HANDLE, "1")
        handler = pb.Handler(task=CreateTaskRequest(workflow=WorkflowRef(name="effect")))
        await subscriptions.create("handler", handler=handler)
        await workflows.deprecate("effect", "1")
        await subscriptions.tasks.run(ONE)

        async def paused():
            return (await subscriptions.get("handler")).paused_because

        because = await eventually(paused, WAIT_SECONDS)
        assert "WORKFLOW_VERSION_DEPRECATED" in because


async def test_a_webhook_hears_of_handlers(subscriptions, receiver):
    await subscriptions.handler("handler", HANDLE)
    await subscriptions.webhook("hook", receiver.url)
    await subscriptions.tasks.run(ONE)
    await receiver.got(2)


async def test_a_handler_that_cannot_be_started_is_paused(subscriptions, shared_mesh):
    """As when its workflow was deleted, or the limits of graphs were lowered."""
    created = await subscriptions.handler("handler", HANDLE)
    other = await subscriptions.handler("other", HANDLE)
    bad = CreateTaskRequest(graph=graph(transform("a", "1 +")))
    await shared_mesh.fetch(
        "UPDATE executor.subscriptions SET handler = $2 WHERE subscription_id = $1::text::uuid",
        created.subscription_id,
        bad.SerializeToString(),
    )
    await subscriptions.tasks.run(ONE)
    await subscriptions.deliveries(other)

    async def paused():
        return (await subscriptions.get("handler")).paused

    await eventually(paused, WAIT_SECONDS)
    found = await subscriptions.get("handler")
    assert found.paused_because.startswith("its task was refused: EXPRESSION_INVALID: graph.")
    assert await subscriptions.started(created) == []


async def test_a_handler_may_have_a_key_that_the_event_gives(subscriptions):
    keyed = graph(transform("handle", "input.data.task_id"))
    keyed.concurrency.key = "input.data.labels.customer"
    created = await subscriptions.handler("keyed", keyed)
    other = await subscriptions.handler("other", HANDLE, labels={"customer": "a"})
    # What gives no key is passed over, and nothing else.
    await subscriptions.tasks.run(ONE)
    cause = await subscriptions.tasks.run(ONE, labels={"customer": "a"})
    for subscription in (created, other):
        (started,) = await subscriptions.deliveries(subscription)
        assert started.labels["stepwire.task"] == cause.task_id
    assert not (await subscriptions.get("keyed")).paused


async def test_a_handler_that_would_have_too_many_labels_is_refused(subscriptions, shared_mesh):
    async with workflow_client(shared_mesh.server.address, subscriptions.tasks.tenant) as workflows:
        defaults = WorkflowDefaults(labels={"a": "1", "b": "2", "c": "3"})
        await workflows.register("effect", HANDLE, "1", defaults=defaults)
        labels = {f"own{place}": "" for place in range(12)}
        task = CreateTaskRequest(workflow=WorkflowRef(name="effect"), labels=labels)
        async with refused() as error:
            await subscriptions.create("handler", handler=pb.Handler(task=task))
        assert error().metadata["field"] == "subscription.handler.task.labels"


async def test_a_refusal_does_not_pause_what_was_mended_meanwhile(
    subscriptions, shared_mesh, monkeypatch
):
    created = await subscriptions.handler("handler", HANDLE)
    refusals = []
    start = TaskStarter.start

    async def start_late(self, request, **named):
        if not refusals and request.labels.get(LABEL) == created.subscription_id:
            await subscriptions.update("handler", "include_output", include_output=True)
            refusals.append(request)
            raise StepwireError(Reason.WORKFLOW_NOT_FOUND, "it is not there yet")
        return await start(self, request, **named)

    monkeypatch.setattr(TaskStarter, "start", start_late)
    await subscriptions.tasks.run(ONE)
    (started,) = await subscriptions.deliveries(created)
    assert len(refusals) == 1
    assert state_of(started) == "SUCCEEDED"
    assert not (await subscriptions.get("handler")).paused


async def test_a_ping_starts_the_handler(subscriptions):
    created = await subscriptions.handler("handler", graph(transform("type", "input.type")))
    other = await subscriptions.handler("other", HANDLE)
    task = await subscriptions.tasks.wait(await subscriptions.ping("handler"))
    assert output_of(task) == "subscription.ping"
    assert [each.task_id for each in await subscriptions.started(created)] == [task.task_id]
    assert await subscriptions.started(other) == []
