"""An executor and its workers over real Postgres and RabbitMQ, and a client of it."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import pytest

from executor_svc.app import build
from executor_svc.settings import ExecutorSettings, WorkerSettings
from executor_svc.waking.messaging import AmqpEventBus, AmqpWakeups
from executor_svc.worker import Worker, start_worker
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import graph_pb2, task_pb2
from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from stepwire.call import call_context
from stepwire.errors import StepwireError
from stepwire.mq import AmqpConnection, Topology, open_broker
from stepwire.payload import value_to_json
from stepwire.rpc import Server, open_channel
from stepwire.rpc.status import from_rpc_error
from stepwire.testing.poll import eventually
from tests.integration.executor_svc import executor_functions  # noqa: F401 - registers them

FUNCTIONS = "tests.integration.executor_svc.executor_functions"
WAIT_SECONDS = 60.0
NO_RETRY: dict[str, Any] = {"max_attempts": 1}
# No pause of the machine is as long: workers that live keep what they run.
LONG_LEASE: dict[str, Any] = {"lease_seconds": 60, "renew_seconds": 1}
AT_ONCE: dict[str, Any] = {"max_attempts": 3, "initial_backoff": {"nanos": 1_000_000}}


def graph(*steps: Mapping[str, Any]) -> graph_pb2.Graph:
    return graph_pb2.Graph(steps=[graph_pb2.Step(**step) for step in steps])


def transform(name: str, expression: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "transform": {"expression": expression}, **fields}


def python(name: str, function: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "python": {"function": f"test.{function}"}, **fields}


def chain(length: int) -> graph_pb2.Graph:
    return graph(
        *(
            transform(f"s{place}", "value + 1", depends_on=[f"s{place - 1}"] if place else [])
            for place in range(length)
        )
    )


def held_steps(
    tmp_path: Path, count: int = 3
) -> tuple[graph_pb2.Graph, dict[str, str], Path, Path]:
    """A graph whose steps run until a file is there; its input, its notes, and that file."""
    path, go = tmp_path / "notes", tmp_path / "go"
    what = graph(
        python("before", "note", input="input"),
        python(
            "held",
            "await_file",
            for_each=f"{list(range(count))}",
            depends_on=["before"],
            input="{'path': input.path, 'awaits': input.awaits, 'result': item}",
        ),
        transform("after", "value", depends_on=["held"]),
    )
    return what, {"path": str(path), "awaits": str(go)}, path, go


def output_of(message: Any) -> Any:
    """The output of a task or step as a JSON value."""
    assert message.HasField("output"), message
    return value_to_json(message.output.json)


def state_of(message: Any) -> str:
    if isinstance(message, task_pb2.Task):
        return task_pb2.TaskState.Name(message.state).removeprefix("TASK_STATE_")
    return task_pb2.StepState.Name(message.state).removeprefix("STEP_STATE_")


def type_of(event: task_pb2.TaskEvent) -> str:
    return task_pb2.TaskEventType.Name(event.type).removeprefix("TASK_EVENT_TYPE_")


def create_request(what: graph_pb2.Graph, value: Any = None, **fields: Any) -> pb.CreateTaskRequest:
    request = pb.CreateTaskRequest(graph=what, **fields)
    request.input.data = json.dumps(value).encode()
    return request


@dataclass
class Client:
    """The executor as one tenant sees it."""

    stub: Any
    tenant: str = "default"

    def of(self, tenant: str) -> "Client":
        return Client(self.stub, tenant)

    async def call(self, method: str, request: Any, **options: Any) -> Any:
        with call_context(tenant_id=self.tenant):
            return await getattr(self.stub, method)(request, **options)

    async def create(self, what: graph_pb2.Graph, value: Any = None, **fields: Any) -> str:
        request = create_request(what, value, **fields)
        created: str = (await self.call("CreateTask", request)).task.task_id
        return created

    async def wait(self, task_id: str) -> task_pb2.Task:
        """Wait for a task's end; return it with its steps and their outputs."""
        request = pb.WaitTaskRequest(task_id=task_id)
        waited = (await self.call("WaitTask", request, timeout=WAIT_SECONDS)).task
        task = await self.get(task_id)
        assert task.HasField("end_time"), f"still {state_of(task)}:\n{task}"
        # It is read in another way.
        assert (waited.state, waited.output) == (task.state, task.output)
        return task

    async def run(self, what: graph_pb2.Graph, value: Any = None, **fields: Any) -> task_pb2.Task:
        return await self.wait(await self.create(what, value, **fields))

    async def get(self, task_id: str) -> task_pb2.Task:
        request = pb.GetTaskRequest(task_id=task_id, include_steps=True, include_outputs=True)
        task: task_pb2.Task = (await self.call("GetTask", request)).task
        return task

    async def step(self, task_id: str, step_id: str) -> task_pb2.StepRun:
        return steps_of(await self.get(task_id))[step_id]

    async def until(self, task_id: str, step_id: str, state: str) -> task_pb2.StepRun:
        """Wait until a step exists and is in a state."""

        async def reached() -> task_pb2.StepRun | None:
            step = steps_of(await self.get(task_id)).get(step_id)
            return step if step is not None and state_of(step) == state else None

        step = await eventually(reached, WAIT_SECONDS)
        assert step is not None
        return step

    async def cancel(self, task_id: str, **fields: Any) -> task_pb2.Task:
        request = pb.CancelTaskRequest(task_id=task_id, **fields)
        task: task_pb2.Task = (await self.call("CancelTask", request)).task
        return task

    async def retry(self, task_id: str, **fields: Any) -> task_pb2.Task:
        request = pb.RetryTaskRequest(task_id=task_id, **fields)
        task: task_pb2.Task = (await self.call("RetryTask", request)).task
        return task

    async def events(self, task_id: str, *, after: int = 0) -> list[task_pb2.TaskEvent]:
        """Watch a task to its end."""
        request = pb.WatchTaskRequest(task_id=task_id, after_cursor=after)
        with call_context(tenant_id=self.tenant):
            watch = self.stub.WatchTask(request, timeout=WAIT_SECONDS)
        return [response.event async for response in watch]

    async def history(self, task_id: str) -> list[str]:
        """Watch a task to its end; return "TYPE step_id attempt" of each event."""
        return [
            f"{type_of(event)} {event.step_id} {event.attempt}".removesuffix("  0")
            for event in await self.events(task_id)
        ]


def steps_of(task: task_pb2.Task) -> dict[str, task_pb2.StepRun]:
    return {step.step_id: step for step in task.steps}


@asynccontextmanager
async def refused() -> AsyncIterator[Callable[[], StepwireError]]:
    """Expect the block's call to be refused; gives what says why."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield lambda: error
    found = from_rpc_error(caught.value)
    assert found is not None, caught.value
    error = found


@dataclass
class Mesh:
    """What a test works with."""

    client: Client
    database_url: str
    rabbitmq_url: str
    namespace: str
    server: Server
    shared: dict[str, Any] = field(default_factory=dict)
    # Where the shared worker looks for a router; nothing listens there but in tests of it.
    router_port: int = 0

    @property
    def topology(self) -> Topology:
        return Topology(self.namespace)

    @asynccontextmanager
    async def worker(self, **changes: Any) -> AsyncIterator[Worker]:
        """Run a worker in this process."""
        fields = {"http_allow_private": True, "function_wait_seconds": 0.5, **LONG_LEASE}
        settings = WorkerSettings(**{**self.shared, **fields, **changes})
        async with AsyncExitStack() as stack:
            amqp = await stack.enter_async_context(AmqpConnection(self.rabbitmq_url, name="test"))
            running = await start_worker(
                settings,
                stack,
                broker=open_broker(self.rabbitmq_url),
                wakeups=AmqpWakeups(amqp, self.topology, max_bundle=settings.max_bundle),
                bus=AmqpEventBus(amqp, self.topology),
            )
            yield running
            await running.drain(timeout_seconds=1)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the test's own to the record."""
        connection = await asyncpg.connect(self.database_url)
        try:
            yield connection
        finally:
            await connection.close()

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows

    async def let_leases_run_out(self) -> None:
        """Have all leases run out, as if no worker had given a sign of life for long.

        So that workers may have leases that no pause of the machine breaks.
        """
        await self.fetch(
            "UPDATE executor.worker_sessions SET expires_at = now() - interval '1 minute'"
        )


@asynccontextmanager
async def running_mesh(
    database_url: str, rabbitmq_url: str, namespace: str, **changes: Any
) -> AsyncIterator[Mesh]:
    """Run an executor; workers are the test's affair."""
    shared: dict[str, Any] = {
        "postgres_url": database_url,
        "rabbitmq_url": rabbitmq_url,
        "mq_namespace": namespace,
        "republish_after_seconds": 0.5,
        "step_modules": (FUNCTIONS,),
    }
    fields = {"sweep_seconds": 0.1, "recheck_seconds": 1, **changes}
    settings = ExecutorSettings(
        port=0,
        **{key: value for key, value in {**shared, **fields}.items() if key != "step_modules"},
    )
    async with AsyncExitStack() as stack:
        services = await build(settings, stack)
        server = await stack.enter_async_context(Server("executor", settings, services))
        channel = await stack.enter_async_context(
            open_channel(server.address, retry_unavailable=False)
        )
        client = Client(ExecutorServiceStub(channel))
        yield Mesh(client, database_url, rabbitmq_url, namespace, server, shared)
