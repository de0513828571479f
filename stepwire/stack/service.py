"""Parts that are Stepwire's own Python processes."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from stepwire.stack.part import Part
from stepwire.stack.ports import DEFAULTS, LOOPBACK, PortPlan
from stepwire.stack.probes import grpc_serving, serves_metric
from stepwire.stack.process import Command
from stepwire.telemetry import names

MODULES: Mapping[str, str] = {
    "collector": "stepwire.telemetry.collector",
    "executor": "executor_svc",
    "router": "router_svc",
    "vector": "vector_svc",
    "model": "model_svc",
    "companion": "gateway",
}
# The companion answers health for the whole mesh; this is what it says of itself.
HEALTH_SERVICES: Mapping[str, str] = {"companion": "grpc.health.v1.Health"}
WORKER_MODULE = "executor_svc.worker"
# As Prometheus writes the name of the metric.
WORKER_SLOTS_SAMPLE = names.WORKER_SLOTS.replace(".", "_")


def python_command(module: str, environment: Mapping[str, str]) -> Command:
    """Returns the command that runs a module with this interpreter.

    It runs in the current folder, so that a relative path in a user's setting means
    what it meant to the user.
    """
    return Command(
        arguments=(sys.executable, "-m", module),
        environment=environment,
        folder=Path.cwd(),
    )


def service_part(
    name: str,
    *,
    ports: PortPlan,
    environment: Callable[[], Mapping[str, str]],
    needs: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
) -> Part:
    """Returns a gRPC service of Stepwire as a part: ready when its health is SERVING.

    Args:
        name: A key of `MODULES`.
        ports: Where it listens: `name` and, where it has them, `NAME-metrics` and
            `NAME-http`.
        environment: Gives the environment; asked when the part is started.
        needs: The parts that must be ready before.
        uses: The parts that it calls.
    """
    port = ports.number(name)
    numbers, variables = {"grpc": port}, {"grpc": DEFAULTS[name].variable}
    for purpose in ("metrics", "http"):
        if (own := f"{name}-{purpose}") in DEFAULTS:
            numbers[purpose] = ports.number(own)
            variables[purpose] = DEFAULTS[own].variable
    return Part(
        name=name,
        command=lambda: python_command(MODULES[name], environment()),
        is_ready=partial(grpc_serving, port, service=HEALTH_SERVICES.get(name, "")),
        needs=needs,
        uses=uses,
        ports=numbers,
        port_variables=variables,
        # The model service may have to build its model first.
        start_seconds=120.0,
    )


def worker_part(
    number: int,
    *,
    ports: PortPlan,
    environment: Callable[[], Mapping[str, str]],
    needs: tuple[str, ...],
    uses: tuple[str, ...],
) -> Part:
    """Returns the worker of this number, counted from 1: ready when it has slots for steps.

    Its metrics alone are there before, while it may still find that it cannot start.
    """
    port = ports.number("worker-metrics") + number - 1
    variable = DEFAULTS["worker-metrics"].variable
    return Part(
        name=f"worker-{number}",
        command=lambda: python_command(WORKER_MODULE, {**environment(), variable: str(port)}),
        is_ready=partial(serves_metric, port, WORKER_SLOTS_SAMPLE),
        needs=needs,
        uses=uses,
        ports={"metrics": port},
        port_variables={"metrics": variable},
    )


def target(ports: PortPlan, name: str) -> str:
    """Returns host and port of a part, as a channel's target."""
    return f"{LOOPBACK}:{ports.number(name)}"
