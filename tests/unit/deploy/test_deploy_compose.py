"""What the compose file promises to our settings."""

import re
from typing import Any

import pytest

from tests.unit.deploy.workloads import COMPOSE, SETTINGS, compose_services, known, read

OURS = {name: each for name, each in compose_services().items() if "stepwire" in each["image"]}
STOP_SECONDS = re.compile(r"^(\d+)s$")

each_of_ours = pytest.mark.parametrize("service", OURS.values(), ids=list(OURS))


def filled_in(text: object) -> str:
    """What compose makes of a value where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


def variables(service: dict[str, Any]) -> dict[str, str]:
    return {
        name: filled_in(value)
        for name, value in service["environment"].items()
        if name.startswith("STEPWIRE_")
    }


@each_of_ours
def test_variables_are_settings_and_their_values_are_taken(service: dict[str, Any]) -> None:
    kind = SETTINGS[service["command"][2]]
    names = {name for name in service["environment"] if not name.startswith("OTEL_")}
    assert names <= known(kind)
    assert read(variables(service), kind).host == "0.0.0.0"


@each_of_ours
def test_a_container_may_do_little_and_is_asked_how_it_is(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]
    settings = read(variables(service), SETTINGS[service["command"][2]])
    _, *command = service["healthcheck"]["test"]
    assert command[:3] == ["python", "-m", "stepwire.probe"]
    port = settings.metrics_port if command[3] == "worker" else settings.port
    assert command[4] == str(port)
    grace = STOP_SECONDS.match(service["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) >= getattr(settings, "drain_seconds", 0) + 5


def test_targets_are_services_and_their_ports() -> None:
    ports = {
        name: {
            value
            for field, value in read(variables(each), SETTINGS[each["command"][2]])
            if field in {"port", "http_port"}
        }
        for name, each in OURS.items()
    }
    found = 0
    for service in OURS.values():
        for name, value in variables(service).items():
            if name.endswith("_TARGET") and value:
                host, _, port = value.rpartition(":")
                assert int(port) in ports[host]
                found += 1
    assert found == 3 + 2 + 1 + 4 + 7


def test_nothing_but_the_gateway_is_published() -> None:
    published = {name for name, each in compose_services().items() if "ports" in each}
    assert published == {"gateway"}
    assert "127.0.0.1:8080" in COMPOSE.read_text("utf-8")
