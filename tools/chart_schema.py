"""Writes deploy/helm/stepwire/values.schema.json from the chart's values and the settings classes.

What the chart sets itself may not be set again, and what is a secret only from a secret.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from executor_svc.settings import ExecutorSettings, WorkerSettings
from gateway.settings import CompanionSettings, GatewaySettings
from model_svc.settings import ModelSettings
from router_svc.settings import RouterSettings
from vector_svc.settings import VectorSettings

CHART = Path(__file__).parent.parent / "deploy/helm/stepwire"
SCHEMA = CHART / "values.schema.json"
PARTS: dict[str, type[BaseSettings]] = {
    "executor": ExecutorSettings,
    "router": RouterSettings,
    "vector": VectorSettings,
    "model": ModelSettings,
    "companion": CompanionSettings,
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
}
# What the templates set, beside all that ends in _target.
SET_BY_CHART = {
    *("host", "port", "http_port", "admin_port", "metrics_port", "postgres_url", "rabbitmq_url"),
    *("queues", "drain_seconds", "linger_seconds", "name", "slots", "step_modules", "failpoints"),
    *("provider", "threads", "repository_dir", "concurrency", "cache_dir", "catalogue_path"),
    *("authentication", "allow_unauthenticated", "first_key"),
    # A Deployment would start it again and again.
    "exit_when_idle_seconds",
}
# Told by telemetry.*.
SET_BY_TELEMETRY = {"log_level", "trace_sampling_percent"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
QUANTITIES = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "number"}]},
}
# Maps whose keys are the user's.
OPEN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("annotations", "podAnnotations", "labels", "podLabels"), TEXTS),
    **dict.fromkeys(("nodeSelector", "files", "metadata"), TEXTS),
    **dict.fromkeys(("requests", "limits"), QUANTITIES),
    "affinity": {"type": "object"},
}
CHOICES = {
    "authentication": ["keys", "off"],
    "logLevel": ["DEBUG", "INFO", "WARNING", "ERROR"],
    "pullPolicy": ["Always", "IfNotPresent", "Never"],
    "spread": ["ScheduleAnyway", "DoNotSchedule"],
    "type": ["ClusterIP", "NodePort", "LoadBalancer"],
}
SECRET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["secret", "key"],
    "properties": {"secret": {"type": "string"}, "key": {"type": "string"}},
}
CLASS_NAME = "^[a-z]([a-z0-9-]{0,20}[a-z0-9])?$"


def settings_of(kind: type[BaseSettings], *, secret: bool) -> list[str]:
    """Returns the names that a user may set: of secrets, or of all others."""
    return sorted(
        field.upper()
        for field, info in kind.model_fields.items()
        if field not in SET_BY_CHART
        and not (field in SET_BY_TELEMETRY and kind is not GatewaySettings)
        and not (field == "trace_sampling_percent" and kind is GatewaySettings)
        and not field.endswith("_target")
        and (SecretStr in _types(info.annotation)) is secret
    )


def _types(annotation: Any) -> set[Any]:
    inner = getattr(annotation, "__args__", ())
    return {annotation}.union(*(_types(each) for each in inner))


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of an object that has these properties at most."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def schema_of(key: str, value: Any, part: str) -> dict[str, Any]:
    """Returns the schema of a value: of the default's type, and closed where it is a map."""
    if key in CHOICES:
        return {"enum": CHOICES[key]}
    if isinstance(value, dict):
        return map_schema(key, value, part)
    match value:
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number", "minimum": 0}
        case list():
            return {"type": "array"}
        case _:
            return {"type": "string"}


def map_schema(key: str, value: dict[str, Any], part: str) -> dict[str, Any]:
    """Returns the schema of a map: its keys are its own, or the user's, or names of settings."""
    if key == "settings":
        names = settings_of(PARTS[part], secret=False)
        return closed({name: {} for name in names})
    if key == "secretSettings":
        return closed(dict.fromkeys(settings_of(PARTS[part], secret=True), SECRET))
    if key in OPEN:
        return OPEN[key]
    return closed({name: schema_of(name, item, part) for name, item in value.items()})


def schema(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of the chart's values."""
    pod = {name: schema_of(name, item, "") for name, item in values["podDefaults"].items()}
    properties = {}
    for name, value in values.items():
        found = schema_of(name, {} if name == "workers" else value, name)
        if name in PARTS:
            found["properties"] |= pod
        properties[name] = found
    workers = {
        name: schema_of(name, value, "worker")
        for name, value in values["workers"].items()
        if name != "classes"
    }
    kind = schema_of("", values["workers"]["classes"]["default"], "worker")
    kind["properties"] |= pod
    workers["classes"] = {
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {CLASS_NAME: kind},
    }
    properties["workers"] = closed(workers)
    # Given by Helm to charts within charts.
    properties["global"] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **closed(properties)}


def page() -> str:
    """Returns the text of the schema's file."""
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    return json.dumps(schema(values), indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(f"{SCHEMA}\n")
    SCHEMA.write_text(page(), "utf-8")
