"""The manifests and the compose file, as objects with what tests ask of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from executor_svc.settings import ExecutorSettings, WorkerSettings
from gateway.settings import CompanionSettings, GatewaySettings
from model_svc.settings import ModelSettings
from router_svc.settings import RouterSettings
from stepwire.api_keys import key_text, new_key_id, new_secret
from vector_svc.settings import VectorSettings

DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = DEPLOY / "helm/stepwire"
MANIFESTS = DEPLOY / "kubernetes/stepwire.yaml"
COMPOSE = DEPLOY / "compose.yaml"
# What a container runs, and the settings that it reads.
SETTINGS: Mapping[str, type[BaseSettings]] = {
    "executor_svc": ExecutorSettings,
    "executor_svc.worker": WorkerSettings,
    "router_svc": RouterSettings,
    "vector_svc": VectorSettings,
    "model_svc": ModelSettings,
    "gateway": CompanionSettings,
    "gateway.config": GatewaySettings,
}
# For what a cluster fills in.
STAND_INS = {
    "uri": "postgresql://user:password@host:5432/database",
    "connection_string": "amqp://user:password@host:5672/",
    "key": key_text(new_key_id(), new_secret()),
    "limits.cpu": "2",
}


@dataclass(frozen=True)
class Process:
    """A container of ours: its own definition and the pod's."""

    name: str
    module: str
    container: Mapping[str, Any]
    pod: Mapping[str, Any]

    @property
    def kind(self) -> type[BaseSettings]:
        return SETTINGS[self.module]

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.pod["metadata"]["labels"]
        return labels

    def variables(self) -> dict[str, str]:
        """All that it has of `STEPWIRE_*`, with stand-ins for what is not in the manifest."""
        found = {}
        for each in self.container["env"]:
            if not each["name"].startswith("STEPWIRE_"):
                continue
            source = each.get("valueFrom", {})
            key = source.get("secretKeyRef", {}).get("key") or source.get(
                "resourceFieldRef", {}
            ).get("resource")
            found[each["name"]] = STAND_INS[key] if key else each["value"]
        return found


def read(variables: Mapping[str, str], kind: type[BaseSettings]) -> Any:
    """The settings as a process with these variables reads them, and none besides."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return kind()


def known(kind: type[BaseSettings]) -> set[str]:
    prefix = kind.model_config.get("env_prefix", "")
    return {prefix + field.upper() for field in kind.model_fields}


@cache
def objects() -> tuple[dict[str, Any], ...]:
    return tuple(yaml.safe_load_all(MANIFESTS.read_text("utf-8")))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in objects() if each["kind"] == kind]


def processes() -> Iterator[Process]:
    for deployment in of_kind("Deployment"):
        pod = deployment["spec"]["template"]
        for container in pod["spec"]["containers"]:
            module = container["command"][2]
            yield Process(deployment["metadata"]["name"], module, container, pod)


def compose_services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    return services
