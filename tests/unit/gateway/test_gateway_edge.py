import base64
import re
from datetime import timedelta
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2

from gateway.edge.clusters import clusters
from gateway.edge.origins import foreign_origin
from gateway.edge.replies import local_replies
from gateway.edge.routes import route_configuration
from gateway.envoy.cluster import DiscoveryType, DnsCluster
from gateway.envoy.core import HeaderValueOption
from gateway.envoy.route import Route
from gateway.settings import GatewaySettings
from stepwire.errors import Reason

EXECUTOR = "stepwire.api.executor.v1.ExecutorService"


def routes(**settings: Any) -> dict[str, Route]:
    configuration = route_configuration(GatewaySettings(**settings))
    return {route.name: route for route in configuration.virtual_hosts[0].routes}


def retry_on(route: Route) -> set[str]:
    assert route.route is not None
    assert route.route.retry_policy is not None
    return set(route.route.retry_policy.retry_on.split(","))


def test_a_write_is_tried_again_only_if_it_was_never_sent() -> None:
    found = routes()
    for name in (f"{EXECUTOR}/CreateTask", "stepwire.api.router.v1.RouterService/Generate"):
        assert retry_on(found[name]) == {"connect-failure", "refused-stream"}
    assert "unavailable" in retry_on(found[f"{EXECUTOR}/GetTask"])


def test_durations_follow_the_settings() -> None:
    found = routes(default_deadline_seconds=7, max_deadline_seconds=8, long_poll_seconds=9)
    for name, without in (("CreateTask", 7), ("GetTask", 7), ("WaitTask", 9)):
        action = found[f"{EXECUTOR}/{name}"].route
        assert action is not None
        assert action.max_stream_duration is not None
        assert action.max_stream_duration.max_stream_duration == timedelta(seconds=without)
        assert action.max_stream_duration.grpc_timeout_header_max == timedelta(seconds=8)
        assert action.idle_timeout == timedelta(seconds=max(without, 8))


def test_a_watch_has_no_limit() -> None:
    action = routes()[f"{EXECUTOR}/WatchTask"].route
    assert action is not None
    assert action.max_stream_duration is not None
    assert {
        action.timeout,
        action.idle_timeout,
        action.max_stream_duration.max_stream_duration,
        action.max_stream_duration.grpc_timeout_header_max,
    } == {timedelta(0)}


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        ("http://localhost", True),
        ("http://localhost:5173", True),
        ("https://app.example", True),
        ("https://app.example:444", False),
        ("https://appxexample", False),
        ("http://localhost.evil.example", False),
        ("http://localhost:5173.evil.example", False),
        ("null", False),
    ],
)
def test_origins(origin: str, own: bool) -> None:  # noqa: FBT001
    _, matcher = foreign_origin(("http://localhost:*", "https://app.example"))
    assert matcher.invert_match
    assert matcher.string_match is not None
    assert matcher.string_match.safe_regex is not None
    # RE2 in Envoy, and like it matched against the whole value.
    assert bool(re.fullmatch(matcher.string_match.safe_regex.regex, origin)) is own


def test_addresses_are_static_and_names_are_looked_up() -> None:
    found = {
        cluster.name: cluster
        for cluster in clusters(GatewaySettings(vector_target="vector.svc:1", otlp_target="c:2"))
    }
    assert isinstance(found["vector"].cluster_type.typed_config, DnsCluster)
    assert found["vector"].type is None
    assert found["executor"].type is DiscoveryType.STATIC
    assert found["executor"].health_checks[0].grpc_health_check.service_name == EXECUTOR
    assert found["otlp"].health_checks == ()


def value_of(headers: tuple[HeaderValueOption, ...], key: str) -> str | None:
    return next((option.header.value for option in headers if option.header.key == key), None)


def test_details_for_grpc_say_the_same_as_the_status() -> None:
    checked = 0
    for mapper in local_replies(GatewaySettings()).mappers:
        encoded = value_of(mapper.headers_to_add, "grpc-status-details-bin")
        if encoded is None:
            continue
        status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
        text = mapper.body_format_override.text_format_source
        assert text is not None
        # grpcio refuses details that disagree with code or message.
        assert status.message == text.inline_string
        assert str(status.code) == value_of(mapper.headers_to_add, "grpc-status")
        assert "%" not in status.message
        checked += 1
    assert checked > 5


def test_reasons_are_those_of_the_services() -> None:
    for mapper in local_replies(GatewaySettings()).mappers:
        body = mapper.body_format_override.json_format
        for detail in body.get("details", ()) if body else ():
            if detail["@type"].endswith(error_details_pb2.ErrorInfo.DESCRIPTOR.full_name):
                assert detail["reason"] in Reason.__members__
                assert detail["domain"] == "stepwire"
