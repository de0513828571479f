"""Writes docs/reference/settings.md from the settings classes."""

import sys
from pathlib import Path

from pydantic_settings import BaseSettings

from executor_svc.settings import ExecutorSettings, WorkerSettings
from gateway.settings import CompanionSettings, GatewaySettings
from model_svc.settings import ModelSettings
from router_svc.settings import RouterSettings
from stepwire.telemetry.collector import CollectorSettings
from vector_svc.settings import VectorSettings

PAGE = Path(__file__).parent.parent / "docs/reference/settings.md"
PROCESSES: dict[str, type[BaseSettings]] = {
    "executor": ExecutorSettings,
    "worker": WorkerSettings,
    "router": RouterSettings,
    "vector": VectorSettings,
    "model": ModelSettings,
    "gateway": GatewaySettings,
    "companion": CompanionSettings,
    "collector": CollectorSettings,
}
HEAD = """# Settings

Each process reads its settings once, from environment variables, when it starts. Telemetry
follows the standard `OTEL_*` variables. This page is generated:
`python tools/settings_reference.py`.
"""


def section(name: str, settings: type[BaseSettings]) -> str:
    """Return the table of one process."""
    prefix = settings.model_config.get("env_prefix", "")
    rows = [
        f"| `{prefix}{field.upper()}` | {default(info.default)} | {info.description} |"
        for field, info in settings.model_fields.items()
    ]
    return "\n".join([f"## {name}\n", "| Variable | Default | Meaning |", "|---|---|---|", *rows])


def default(value: object) -> str:
    """Return a default as it would be written in the environment."""
    if isinstance(value, tuple | list):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    text = "" if value is None else str(value)
    return f"`{text}`" if text else "empty"


def page() -> str:
    """Return the whole page."""
    return "\n\n".join([HEAD.rstrip(), *(section(*item) for item in PROCESSES.items())]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(f"{PAGE}\n")
    PAGE.write_text(page(), "utf-8")
