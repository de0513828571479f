"""Wiring of the kinds of steps that a worker runs."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

import httpx2

from executor_svc.settings import WorkerSettings
from executor_svc.steps.embed import EmbedKind
from executor_svc.steps.guard import GuardedTransport
from executor_svc.steps.http import HttpKind
from executor_svc.steps.kind import Kind
from executor_svc.steps.model import ModelKind
from executor_svc.steps.points import SearchKind, UpsertKind
from executor_svc.steps.python import PythonKind
from executor_svc.steps.sleep import SleepKind
from executor_svc.steps.subtask import SubtaskKind, Subtasks
from executor_svc.steps.transform import TransformKind
from executor_svc.steps.wait_signal import WaitSignalKind
from executor_svc.steps.webhook import Targets, WebhookKind
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceStub
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceStub
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceStub
from stepwire.rpc import open_channel
from stepwire.sdk.functions import default_registry


async def open_kinds(
    settings: WorkerSettings, stack: AsyncExitStack, *, targets: Targets, subtasks: Subtasks
) -> Mapping[str, Kind]:
    """Return the kinds by name; what they open is closed by `stack`."""
    models = await stack.enter_async_context(open_channel(settings.model_target))
    vectors = await stack.enter_async_context(open_channel(settings.vector_target))
    # The router has tried every model before it says UNAVAILABLE; the step's own retry
    # policy decides when to ask again.
    router = await stack.enter_async_context(
        open_channel(settings.router_target, retry_unavailable=False)
    )
    # The slots bound how many calls there are.
    transport: httpx2.AsyncBaseTransport = httpx2.AsyncHTTPTransport(
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100)
    )
    if not settings.http_allow_private:
        # Connections are kept by address here, and names may share one: none is kept.
        transport = GuardedTransport(
            httpx2.AsyncHTTPTransport(
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0)
            )
        )
    # The step's own timeout bounds the call.
    client = await stack.enter_async_context(
        httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False)
    )
    return {
        "python": PythonKind(default_registry),
        "transform": TransformKind(),
        "embed": EmbedKind(ModelServiceStub(models)),
        "upsert": UpsertKind(PointServiceStub(vectors)),
        "search": SearchKind(SearchServiceStub(vectors)),
        "model": ModelKind(RouterServiceStub(router)),
        "http": HttpKind(client, max_response_bytes=settings.http_max_response_bytes),
        "sleep": SleepKind(),
        "wait_signal": WaitSignalKind(),
        "subtask": SubtaskKind(subtasks),
        "webhook": WebhookKind(client, targets),
    }
