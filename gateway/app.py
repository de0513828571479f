"""Wires the companion: settings in, services out."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from grpc_health.v1 import health_pb2_grpc

from gateway.health import MeshHealth
from gateway.keys.app import wire_keys
from gateway.mesh import HEALTH, KEY_SERVICE, MESH_SERVICES, REFLECTION, REFLECTION_ALPHA
from gateway.metrics import CompanionMetrics
from gateway.owners import GrpcOwner, open_health_channel
from gateway.public import Upstream
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
    """Returns health and reflection of the mesh, and keys; what they hold is closed by `stack`."""
    keys = await wire_keys(settings, stack)
    owners = {}
    for upstream, target in settings.targets().items():
        channel = await stack.enter_async_context(open_health_channel(target))
        owners[upstream] = GrpcOwner(channel, timeout_seconds=settings.owner_timeout_seconds)
    health = MeshHealth(
        {
            service.name: owners[service.upstream]
            for service in MESH_SERVICES
            if service.upstream is not Upstream.COMPANION
        },
        own=(HEALTH, REFLECTION, REFLECTION_ALPHA, KEY_SERVICE.name),
    )

    async def stop() -> None:
        health.stop()

    servicer = HealthServicer(health, CompanionMetrics(meter()))
    add = partial(health_pb2_grpc.add_HealthServicer_to_server, servicer)
    mesh_health = Service(HEALTH, add, drain=stop)
    return [mesh_health, *keys, *(reflection_services() if settings.reflection else ())]
