"""Which scope each method and path needs, and that none needs nothing by mistake."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.authz import wire
from gateway.authz.paths import scope_of_path
from gateway.descriptors import method_names
from gateway.edge.authentication import AUTHENTICATION_FILTER
from gateway.edge.filters import http_filters
from gateway.edge.routes import route_configuration
from gateway.mesh import MESH_SERVICES, PUBLIC_SERVICES
from gateway.public import PublicService, Scope
from gateway.settings import CompanionSettings, GatewaySettings
from stepwire.errors import Reason

KEYS = GatewaySettings(authentication="keys")
OPEN = {"foreign-origin", "index", "unknown"}


def test_every_route_asks_for_a_key_but_those_that_reach_no_data() -> None:
    of_protocols = {service.name for service in PUBLIC_SERVICES if service.protocol}
    for route in route_configuration(KEYS).virtual_hosts[0].routes:
        disabled = AUTHENTICATION_FILTER in (route.typed_per_filter_config or {})
        service, _, _ = route.name.rpartition("/")
        assert disabled is (route.name in OPEN or service in of_protocols), route.name
        path = route.match.path or route.match.prefix
        assert path is not None
        # What is asked about must have an answer, and what is not must have none.
        named = f"{path}x" if path.endswith("/") else path
        assert (scope_of_path(named) is None) is disabled, route.name


@pytest.mark.parametrize("service", MESH_SERVICES, ids=lambda service: service.name)
def test_every_method_has_a_scope(service: PublicService) -> None:
    methods = method_names(service.name)
    assert service.admin <= set(methods)
    for method in methods:
        assert service.scope(method) in set(Scope)


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/stepwire.api.executor.v1.ExecutorService/GetTask", Scope.READ),
        ("/stepwire.api.executor.v1.ExecutorService/WatchTask", Scope.READ),
        ("/stepwire.api.executor.v1.ExecutorService/CreateTask?x=1", Scope.WRITE),
        ("/stepwire.api.executor.v1.QueueService/DrainQueue", Scope.ADMIN),
        ("/stepwire.api.executor.v1.QueueService/ReplaySteps", Scope.WRITE),
        ("/stepwire.api.router.v1.RouterService/StreamGenerate", Scope.WRITE),
        ("/stepwire.api.gateway.v1.KeyService/ListKeys", Scope.ADMIN),
        ("/v1/chat/completions", Scope.WRITE),
        ("/v1/models", Scope.READ),
        ("/v1/models/stepwire", Scope.READ),
        ("/v1/models/a/b", Scope.READ),
        ("/v1/modelsx", None),
        ("/stepwire.api.executor.v1.ExecutorService/", None),
        ("/stepwire.api.executor.v1.ExecutorService/GetTask/", None),
        ("/grpc.health.v1.Health/Check", None),
        ("/", None),
    ],
)
def test_scopes_of_paths(path: str, scope: Scope | None) -> None:
    assert scope_of_path(path) is scope


def test_without_keys_nothing_is_asked(tmp_path: Path) -> None:
    off = {each.name for each in http_filters(GatewaySettings(), tmp_path)}
    on = {each.name for each in http_filters(KEYS, tmp_path)}
    assert on - off == {AUTHENTICATION_FILTER}
    for settings in (GatewaySettings(), KEYS):
        assert set(route_configuration(settings).request_headers_to_remove) == {
            "authorization",
            "x-api-key",
        }


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "gateway.example"])
def test_the_gateway_is_not_open_to_others_by_accident(host: str) -> None:
    with pytest.raises(ValidationError, match="allow_unauthenticated"):
        GatewaySettings(host=host)
    GatewaySettings(host=host, authentication="keys")
    GatewaySettings(host=host, allow_unauthenticated=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_the_machines_own(host: str) -> None:
    assert GatewaySettings(host=host).authentication == "off"


def test_a_first_key_that_is_none_is_refused_and_not_told() -> None:
    with pytest.raises(ValidationError) as caught:
        CompanionSettings(first_key="hunter2")
    assert "hunter2" not in caught.value.errors(include_input=False).__repr__()


def test_a_question_is_read() -> None:
    head = b"GET /check/v1/models?a=b HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer  k"
    assert wire.read_question(head) == wire.Question("/v1/models?a=b", "Bearer  k", "")
    assert wire.read_question(b"GET /healthz HTTP/1.1").path is None
    twice = b"POST /check/x HTTP/1.1\r\nx-api-key: a\r\ncontent-length: 0\r\nX-API-Key: b"
    assert wire.read_question(twice).api_key == "a,b"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /check/x",
        b"GET /other HTTP/1.1",
        b"GET /checks HTTP/1.1",
        b"POST /check/x HTTP/1.1\r\ncontent-length: 5",
        b"POST /check/x HTTP/1.1\r\ntransfer-encoding: chunked",
        b"POST /check/x HTTP/1.1\r\ntransfer-encoding : chunked",
        b"POST /check/x HTTP/1.1\r\nx-api-key:\r\n sw_folded",
        b"POST /check/x HTTP/1.1\r\n\tx-api-key: a",
        b"POST /check/x HTTP/1.1\r\nx-api-key",
        b"POST /check/x HTTP/1.1\r\n: a",
    ],
)
def test_what_is_no_question_is_refused(head: bytes) -> None:
    with pytest.raises(wire.MalformedError):
        wire.read_question(head)


def test_answers_say_what_envoy_needs() -> None:
    assert b"x-tenant-id: acme\r\n" in wire.allow("id", "acme")
    assert wire.deny(Reason.KEY_MISSING, Scope.READ).startswith(b"HTTP/1.1 401 ")
    assert b"x-tenant-id" not in wire.deny(Reason.SCOPE_MISSING, Scope.ADMIN)
    assert b"x-stepwire-missing-scope: admin\r\n" in wire.deny(Reason.SCOPE_MISSING, Scope.ADMIN)
    # 5xx is no answer to Envoy, which would then speak of the companion.
    assert wire.deny(Reason.DEPENDENCY_UNAVAILABLE, None).startswith(b"HTTP/1.1 429 ")
