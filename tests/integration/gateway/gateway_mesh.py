"""An Envoy with real gRPC services behind it, of which one hangs and one is down."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2

from gateway import app
from gateway.settings import CompanionSettings
from gateway.testing import RunningEnvoy, free_ports, running_envoy
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2_grpc import (
    ExecutorServiceServicer,
    add_ExecutorServiceServicer_to_server,
)
from stepwire.api.executor.v1.task_pb2 import Task, TaskEvent, TaskEventType
from stepwire.api.inference import open_inference_pb2 as oip
from stepwire.api.inference.open_inference_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)
from stepwire.api.router.v1 import router_service_pb2
from stepwire.api.router.v1.router_service_pb2_grpc import (
    RouterServiceServicer,
    add_RouterServiceServicer_to_server,
)
from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.rpc import Server, Service, current_call
from stepwire.settings import ServiceSettings

EXECUTOR = "stepwire.api.executor.v1.ExecutorService"
ROUTER = "stepwire.api.router.v1.RouterService"
VECTOR = "stepwire.api.vector.v1.PointService"
MODEL = "stepwire.api.model.v1.ModelService"
INFERENCE = "inference.GRPCInferenceService"

Context = grpc.aio.ServicerContext[Any, Any]
UnaryCall = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


class Settings(ServiceSettings):
    port: int = 0


class Executor(ExecutorServiceServicer):
    """Answers a few calls, each in a way that its task id or label asks for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.metadata: dict[str, list[str]] = {}
        self.time_remaining: float | None = None
        self.next_event = asyncio.Semaphore(0)

    def _seen(self, name: str, context: Context) -> None:
        self.calls.append(name)
        self.time_remaining = context.time_remaining()
        self.metadata = {}
        for key, value in context.invocation_metadata() or ():
            self.metadata.setdefault(key, []).append(str(value))

    async def CreateTask(self, request: pb.CreateTaskRequest, context: Context) -> Any:  # noqa: N802
        self._seen("CreateTask", context)
        if "unavailable" in request.labels:
            raise unavailable()
        tenant = current_call().tenant_id
        return pb.CreateTaskResponse(
            task=Task(task_id="t1", tenant_id=tenant, input=request.input, labels=request.labels)
        )

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> Any:  # noqa: N802
        self._seen("GetTask", context)
        if request.task_id == "missing":
            raise StepwireError(
                Reason.TASK_NOT_FOUND, "no task missing", metadata={"task_id": "missing"}
            )
        if request.task_id == "faulty":
            raise field_invalid("task_id", "must be a UUID")
        if request.task_id == "unavailable-once" and self.calls.count("GetTask") == 1:
            raise unavailable()
        tenant = current_call().tenant_id
        return pb.GetTaskResponse(
            task=Task(
                task_id=request.task_id,
                tenant_id=tenant,
                labels={"steps": str(request.include_steps)},
            )
        )

    async def WaitTask(self, request: pb.WaitTaskRequest, context: Context) -> Any:  # noqa: N802
        self._seen("WaitTask", context)
        return pb.WaitTaskResponse(task=Task(task_id=request.task_id))

    async def WatchTask(  # noqa: N802
        self, request: pb.WatchTaskRequest, context: Context
    ) -> AsyncIterator[pb.WatchTaskResponse]:
        """Sends an event each time the test lets it; the third breaks the watch."""
        self._seen("WatchTask", context)
        if request.task_id == "missing":
            raise StepwireError(Reason.TASK_NOT_FOUND, "no task missing")
        for number in (1, 2):
            await self.next_event.acquire()
            yield pb.WatchTaskResponse(
                event=TaskEvent(
                    task_id=request.task_id,
                    cursor=request.after_cursor + number,
                    type=TaskEventType.TASK_EVENT_TYPE_STEP_STARTED,
                )
            )
        if request.task_id == "breaking":
            raise unavailable()


def unavailable() -> StepwireError:
    return StepwireError(
        Reason.DEPENDENCY_UNAVAILABLE, "no database", metadata={"dependency": "postgres"}
    )


class HangingRouter(RouterServiceServicer):
    """A service that has lost its way: it heeds no deadline."""

    async def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802
        await asyncio.get_running_loop().create_future()
        return router_service_pb2.ListModelsResponse()


class Inference(GRPCInferenceServiceServicer):
    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return oip.ServerLiveResponse(live=True)


@dataclass(frozen=True)
class Mesh:
    envoy: RunningEnvoy
    executor: Executor
    channel: grpc.aio.Channel
    http: httpx2.AsyncClient
    targets: Mapping[str, str]


def executor_service(executor: Executor) -> Service:
    return Service(EXECUTOR, partial(add_ExecutorServiceServicer_to_server, executor))


@asynccontextmanager
async def serving(*services: Service) -> AsyncIterator[str]:
    """Serves services of ours and gives their target."""
    async with Server("test", Settings(), services) as server:
        yield server.address


@asynccontextmanager
async def hanging_router() -> AsyncIterator[str]:
    """Serves without the kernel, which would end calls at their deadline."""
    server = grpc.aio.server()
    add_RouterServiceServicer_to_server(HangingRouter(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def companion(**settings: Any) -> AsyncIterator[str]:
    """Serves the companion, as its process does, for these targets."""
    chosen = CompanionSettings.model_validate({"port": 0, "owner_timeout_seconds": 1} | settings)
    async with AsyncExitStack() as stack:
        services: Sequence[Service] = await app.build(chosen, stack)
        without = chosen.model_copy(update={"reflection": False})
        async with Server("companion", without, services) as server:
            yield server.address


@asynccontextmanager
async def running_mesh(
    folder: Path, *, companions: Mapping[str, Any] = {}, **settings: Any
) -> AsyncIterator[Mesh]:
    """Runs it all: executor and inference well, the router hangs, the vector service is down.

    Args:
        folder: Where Envoy's files are written.
        companions: Settings of the companion.
        **settings: Those of the gateway.
    """
    # Methods that are not written out answer UNIMPLEMENTED; only the types want them all.
    executor = Executor()  # type: ignore[abstract]
    liveness = Inference()  # type: ignore[abstract]
    inference = Service(INFERENCE, partial(add_GRPCInferenceServiceServicer_to_server, liveness))
    model = Service(MODEL, lambda _: None)
    async with AsyncExitStack() as stack:
        targets = {
            "executor_target": await stack.enter_async_context(serving(executor_service(executor))),
            "router_target": await stack.enter_async_context(hanging_router()),
            "vector_target": f"127.0.0.1:{free_ports(1)[0]}",
            "router_http_target": f"127.0.0.1:{free_ports(1)[0]}",
            "model_target": await stack.enter_async_context(serving(inference, model)),
        }
        (http_port,) = free_ports(1)
        targets["companion_http_target"] = f"127.0.0.1:{http_port}"
        own = {name: where for name, where in targets.items() if not name.endswith("_http_target")}
        targets["companion_target"] = await stack.enter_async_context(
            companion(http_port=http_port, **own, **companions)
        )
        envoy = await stack.enter_async_context(running_envoy(folder, **targets | settings))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(envoy.target))
        http = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=f"http://{envoy.target}", trust_env=False, timeout=30)
        )
        yield Mesh(envoy, executor, channel, http, targets)
