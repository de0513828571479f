"""Which parts a stack has, and how each is told where the others are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stepwire.api_keys import VARIABLE
from stepwire.stack import postgres, rabbitmq
from stepwire.stack.envoy import envoy_part
from stepwire.stack.part import Part
from stepwire.stack.ports import DEFAULTS, PortClaim, PortPlan
from stepwire.stack.postgres import PostgresServer
from stepwire.stack.rabbitmq import RabbitServer
from stepwire.stack.secrets import StackSecrets
from stepwire.stack.servers import postgres_part, rabbitmq_part
from stepwire.stack.service import service_part, target, worker_part

DATABASE = "stepwire"
OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """What a user decides about a stack.

    Attributes:
        home: The folder of its data, logs and state.
        port_offset: How far all ports are moved from their defaults.
        workers: How many worker processes to run; none with the in-process broker.
        rabbitmq_url: A RabbitMQ to use instead of a node of the stack's own.
        auth: Whether the gateway asks for keys.
    """

    home: Path
    port_offset: int = 0
    workers: int = 2
    rabbitmq_url: str | None = None
    auth: bool = False


@dataclass(frozen=True, kw_only=True)
class StackPlan:
    """The parts, in an order in which each comes after its needs.

    Attributes:
        parts: What the supervisor runs.
        broker: "rabbitmq", "external" or "in-process".
        workers: How many of the parts are workers.
        gateway: Host and port of the gateway.
    """

    parts: tuple[Part, ...]
    broker: str
    workers: int
    gateway: str

    def claims(self) -> list[PortClaim]:
        """Returns every port that a part will listen on."""
        return [
            PortClaim(part.name, port, part.port_variables[purpose])
            for part in self.parts
            for purpose, port in part.ports.items()
        ]


def make_plan(
    options: StackOptions, *, secrets: StackSecrets, environment: Mapping[str, str]
) -> StackPlan:
    """Decides on parts, ports and environments. Starts and writes nothing.

    Args:
        options: The user's wishes.
        secrets: The passwords of the stack's servers.
        environment: The user's environment. What it sets goes before the plan's own
            values, except for the address of the OTLP collector: the stack's collector
            forwards to that.

    Raises:
        PortError: A port cannot be used.
    """
    ports = PortPlan(options.port_offset, environment)
    folder, account = postgres.place(options.home / "postgres", key=secrets.home_key)
    database = PostgresServer(
        folder=folder,
        port=ports.number("postgres"),
        password=secrets.postgres_password,
        account=account,
    )
    node = _own_node(options, ports, secrets)
    url = options.rabbitmq_url or (node.url if node is not None else "")
    broker = _broker(options, node)
    workers = options.workers if url else 0
    ours = _environment(
        options.home, ports=ports, database_url=database.url(DATABASE), rabbitmq_url=url
    )
    if options.auth:
        ours |= _keys(database.url(DATABASE), secrets)
    # The user's own key is no business of the parts, nor of the functions that workers run.
    environment = {name: text for name, text in environment.items() if name != VARIABLE}
    for_all = partial(_merged, ours, environment)
    for_collector = partial(_for_collector, ours, environment)
    mesh = ("executor", "router", "vector", "model", "collector")
    parts = [
        postgres_part(database, database_name=DATABASE),
        *([rabbitmq_part(node)] if node is not None else []),
        service_part("collector", ports=ports, environment=for_collector),
        service_part("model", ports=ports, environment=for_all, uses=("collector",)),
        service_part(
            "vector",
            ports=ports,
            environment=for_all,
            needs=("postgres",),
            uses=("collector",),
        ),
        service_part(
            "router",
            ports=ports,
            environment=for_all,
            needs=("postgres",),
            uses=("model", "vector", "collector"),
        ),
        service_part(
            "executor",
            ports=ports,
            environment=for_all,
            needs=("postgres", *(("rabbitmq",) if node is not None else ())),
            uses=("router", "vector", "model", "collector"),
        ),
        service_part(
            "companion",
            ports=ports,
            environment=for_all,
            needs=("postgres",) if options.auth else (),
            uses=mesh,
        ),
        envoy_part(
            home=options.home,
            ports=ports,
            environment=for_all,
            uses=(*mesh, "companion"),
        ),
        *(
            worker_part(
                number,
                ports=ports,
                environment=for_all,
                needs=("executor",),
                uses=mesh,
            )
            for number in range(1, workers + 1)
        ),
    ]
    return StackPlan(
        parts=tuple(parts), broker=broker, workers=workers, gateway=target(ports, "gateway")
    )


def _own_node(options: StackOptions, ports: PortPlan, secrets: StackSecrets) -> RabbitServer | None:
    script = rabbitmq.find_script()
    if options.rabbitmq_url or script is None:
        return None
    return RabbitServer(
        script=script,
        folder=options.home / "rabbitmq",
        port=ports.number("rabbitmq"),
        password=secrets.rabbitmq_password,
    )


def _broker(options: StackOptions, node: RabbitServer | None) -> str:
    if options.rabbitmq_url:
        return "external"
    return "rabbitmq" if node is not None else "in-process"


# Whom each process calls.
CALLS: Mapping[str, tuple[str, ...]] = {
    "GATEWAY": ("executor", "router", "vector", "model"),
    "COMPANION": ("executor", "router", "vector", "model"),
    "WORKER": ("router", "vector", "model"),
    "ROUTER": ("vector", "model"),
    "VECTOR": ("model",),
}
# The demo's step functions, besides the library that every worker has.
DEMO_MODULES = '["stepwire.sdk.library", "stepwire.demo.functions"]'


def _environment(
    home: Path, *, ports: PortPlan, database_url: str, rabbitmq_url: str
) -> dict[str, str]:
    """Returns the variables of all processes together; each reads those of its prefix."""
    listening = {
        default.variable: str(ports.number(name))
        for name, default in DEFAULTS.items()
        if name not in {"postgres", "rabbitmq"}
    }
    return {
        **listening,
        **{
            f"STEPWIRE_{name}_POSTGRES_URL": database_url
            for name in ("EXECUTOR", "VECTOR", "ROUTER", "WORKER")
        },
        "STEPWIRE_EXECUTOR_RABBITMQ_URL": rabbitmq_url,
        "STEPWIRE_WORKER_RABBITMQ_URL": rabbitmq_url,
        **{
            f"STEPWIRE_{name}_{called.upper()}_TARGET": target(ports, called)
            for name, all_called in CALLS.items()
            for called in all_called
        },
        "STEPWIRE_WORKER_STEP_MODULES": DEMO_MODULES,
        # ONNX Runtime reports its use to its maker unless this says no.
        "ORT_DISABLE_TELEMETRY": "1",
        "STEPWIRE_GATEWAY_COMPANION_TARGET": target(ports, "companion"),
        "STEPWIRE_GATEWAY_COMPANION_HTTP_TARGET": target(ports, "companion-http"),
        "STEPWIRE_GATEWAY_ROUTER_HTTP_TARGET": target(ports, "router-http"),
        "STEPWIRE_GATEWAY_OTLP_TARGET": target(ports, "collector"),
        "STEPWIRE_COLLECTOR_FOLDER": str(home / "spans"),
        OTLP_ENDPOINT: f"http://{target(ports, 'collector')}",
    }


def _keys(database_url: str, secrets: StackSecrets) -> dict[str, str]:
    """Returns the variables of a stack whose gateway asks for keys."""
    return {
        "STEPWIRE_GATEWAY_AUTHENTICATION": "keys",
        "STEPWIRE_COMPANION_POSTGRES_URL": database_url,
        "STEPWIRE_COMPANION_FIRST_KEY": secrets.first_key,
    }


def _merged(ours: Mapping[str, str], users: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a process: the user's goes before ours."""
    spans = {OTLP_ENDPOINT: ours[OTLP_ENDPOINT]}
    return {"PATH": os.defpath, **ours, **users, **spans}


def _for_collector(ours: Mapping[str, str], users: Mapping[str, str]) -> dict[str, str]:
    """Returns the collector's environment: it forwards to the user's endpoint."""
    forward = {"STEPWIRE_COLLECTOR_FORWARD_ENDPOINT": users.get(OTLP_ENDPOINT, "")}
    return {**_merged({**ours, **forward}, users), OTLP_ENDPOINT: ""}
