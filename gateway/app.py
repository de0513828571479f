"""Wires the companion: settings in, services out."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from grpc_health.v1 import health_pb2_grpc

from gateway.health import MeshHealth
from gateway.mesh import HEALTH, MESH_SERVICES, REFLECTION, REFLECTION_ALPHA
from gateway.metrics import CompanionMetrics
from gateway.owners import GrpcOwner, open_health_channel
from gateway.reflection import reflection_services
from gateway.servicer import HealthServicer
from gateway.settings import CompanionSettings
from stepwire.rpc import Service
from stepwire.rpc import run as run_process
from stepwire.telemetry import meter

NAME = "companion"


def run(settings: CompanionSettings) -> None:
    """Serves until a signal ends the process."""
    # A server's own reflection tells of that server only; ours takes its place.
    own = settings.model_copy(update={"reflection": False})
    run_process(NAME, own, partial(build, settings))


async def build(settings: CompanionSettings, stack: AsyncExitStack) -> Sequence[Service]:
    """Returns health and reflection of the mesh; what they hold is closed by `stack`."""
    owners = {}
    for upstream, target in settings.targets().items():
        channel = await stack.enter_async_context(open_health_channel(target))
        owners[upstream] = GrpcOwner(channel, timeout_seconds=settings.owner_timeout_seconds)
    health = MeshHealth(
        {service.name: owners[service.upstream] for service in MESH_SERVICES},
        own=(HEALTH, REFLECTION, REFLECTION_ALPHA),
    )

    async def stop() -> None:
        health.stop()

    servicer = HealthServicer(health, CompanionMetrics(meter()))
    add = partial(health_pb2_grpc.add_HealthServicer_to_server, servicer)
    mesh_health = Service(HEALTH, add, drain=stop)
    return [mesh_health, *(reflection_services() if settings.reflection else ())]
