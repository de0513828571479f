import pytest
from pydantic import ValidationError

from gateway.edge.clusters import parse_target
from gateway.public import Upstream
from gateway.settings import CompanionSettings, GatewaySettings


def test_reads_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_GATEWAY_PORT", "8888")
    monkeypatch.setenv("STEPWIRE_GATEWAY_MODEL_TARGET", "model:1234")
    monkeypatch.setenv("STEPWIRE_GATEWAY_CORS_ORIGINS", "https://a.example, http://localhost:*")
    monkeypatch.setenv("STEPWIRE_GATEWAY_OTLP_TARGET", "collector:4317")
    settings = GatewaySettings()
    assert settings.port == 8888
    assert settings.target(Upstream.MODEL) == "model:1234"
    assert settings.cors_origins == ("https://a.example", "http://localhost:*")
    assert settings.otlp_target == "collector:4317"


def test_an_empty_collector_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_GATEWAY_OTLP_TARGET", "")
    assert GatewaySettings().otlp_target is None


def test_no_origins_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_GATEWAY_CORS_ORIGINS", "")
    assert GatewaySettings().cors_origins == ()


@pytest.mark.parametrize(
    "target", ["localhost", "http://localhost:1", "host:", ":1", "a b:1", "::1:50051", "host:abc"]
)
def test_refuses_what_is_no_target(target: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(executor_target=target)


@pytest.mark.parametrize(
    "origin", ["*", "example.com", "https://*.example.com", "https://a.example/path", "null"]
)
def test_refuses_what_is_no_origin(origin: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(cors_origins=(origin,))


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("127.0.0.1:50051", "127.0.0.1", 50051),
        ("executor.svc:1", "executor.svc", 1),
        ("[::1]:9", "::1", 9),
    ],
)
def test_splits_targets(target: str, host: str, port: int) -> None:
    found = parse_target(GatewaySettings(executor_target=target).executor_target)
    assert (found.socket_address.address, found.socket_address.port_value) == (host, port)


def test_both_processes_look_for_services_in_the_same_places() -> None:
    gateway, companion = GatewaySettings(), CompanionSettings()
    for upstream, target in companion.targets().items():
        assert gateway.target(upstream) == target
    assert gateway.companion_target == f"{companion.host}:{companion.port}"
