"""Which call goes to which cluster, for how long, and how often.

The transcoder turns `GET /v1/tasks/…` into `/stepwire.api.executor.v1.ExecutorService/…`
before the route is chosen, so that there is one route per published method.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta

from gateway.descriptors import method_names
from gateway.edge.authentication import CREDENTIALS, needing
from gateway.edge.inference_errors import LUA_FILTER, inference_errors
from gateway.edge.origins import cors_policy, foreign_origin
from gateway.envoy.core import DataSource, HeaderMatcher, StringMatcher, TypedConfig
from gateway.envoy.filters import PreviousHosts
from gateway.envoy.message import Message
from gateway.envoy.route import (
    ClusterNotFound,
    DirectResponse,
    MaxStreamDuration,
    RetryBackOff,
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from gateway.mesh import (
    HEALTH_PATH,
    INFERENCE_HTTP_SERVICE,
    OPENAI_PATHS,
    PUBLIC_SERVICES,
    ROUTER_HTTP,
)
from gateway.public import Behaviour, PublicPath, PublicService, scope_of
from gateway.settings import GatewaySettings

CORS_FILTER = "envoy.filters.http.cors"

_UNLIMITED = timedelta(0)

# Failures after which the request has surely not been processed.
_NEVER_SENT = "connect-failure,refused-stream"
_RETRY_ON = {
    Behaviour.WRITE: _NEVER_SENT,
    Behaviour.READ: f"{_NEVER_SENT},reset-before-request,unavailable",
    Behaviour.LONG_POLL: f"{_NEVER_SENT},reset-before-request,unavailable",
    Behaviour.STREAM: f"{_NEVER_SENT},reset-before-request,unavailable",
    Behaviour.WRITE_STREAM: _NEVER_SENT,
}


def route_configuration(settings: GatewaySettings) -> RouteConfiguration:
    """Returns all routes; the first that matches is taken."""
    return RouteConfiguration(
        name="edge",
        virtual_hosts=(
            VirtualHost(
                name="edge",
                domains=("*",),
                routes=(
                    _foreign(settings),
                    _index(settings),
                    *_services(settings),
                    *(_path(each, settings) for each in OPENAI_PATHS),
                    _unknown(settings),
                ),
                typed_per_filter_config={CORS_FILTER: cors_policy(settings.cors_origins)},
            ),
        ),
        # No service needs them, and what a service does not get it cannot log.
        request_headers_to_remove=CREDENTIALS,
    )


def _foreign(settings: GatewaySettings) -> Route:
    return Route(
        name="foreign-origin",
        match=RouteMatch(prefix="/", headers=foreign_origin(settings.cors_origins)),
        direct_response=DirectResponse(status=403),
        typed_per_filter_config=_config(needing(None, settings)),
    )


def _index(settings: GatewaySettings) -> Route:
    index = {
        "name": "stepwire",
        "services": [service.name for service in PUBLIC_SERVICES],
        "health": HEALTH_PATH,
    }
    return Route(
        name="index",
        match=RouteMatch(path="/"),
        direct_response=DirectResponse(
            status=200, body=DataSource(inline_string=json.dumps(index))
        ),
        typed_per_filter_config=_config(needing(None, settings)),
    )


def _unknown(settings: GatewaySettings) -> Route:
    # Without a route of this kind the CORS filter has no policy, and JSON paths get
    # theirs only after it, in the transcoder. It leads nowhere: no call can have a
    # header of this name, so that there is no cluster, which means 404.
    return Route(
        name="unknown",
        match=RouteMatch(prefix="/"),
        route=RouteAction(
            cluster_header=":no-cluster", cluster_not_found_response_code=ClusterNotFound.NOT_FOUND
        ),
        typed_per_filter_config=_config(needing(None, settings)),
    )


def _services(settings: GatewaySettings) -> Iterator[Route]:
    for service in PUBLIC_SERVICES:
        # gRPC's own services are not among our protos; the mesh lists all their methods.
        methods = tuple(service.methods) if service.protocol else method_names(service.name)
        for method in methods:
            yield _route(service, method, settings)


def _route(service: PublicService, method: str, settings: GatewaySettings) -> Route:
    behaviour = service.behaviour(method)
    inference: dict[str, Message] = (
        {LUA_FILTER: inference_errors()} if service is INFERENCE_HTTP_SERVICE else {}
    )
    duration = _duration(behaviour, settings)
    return Route(
        name=f"{service.name}/{method}",
        match=RouteMatch(path=f"/{service.name}/{method}"),
        route=RouteAction(
            cluster=service.upstream.value,
            # Time is kept by max_stream_duration, which heeds the client's deadline,
            # counts from the start of the call, and tells the service what is left.
            timeout=_UNLIMITED,
            # A call may be silent for as long as it may last.
            idle_timeout=max(duration.max_stream_duration, duration.grpc_timeout_header_max),
            max_stream_duration=duration,
            retry_policy=_retry_policy(behaviour),
        ),
        typed_per_filter_config=_config(inference | needing(service.scope(method), settings)),
    )


def _path(public: PublicPath, settings: GatewaySettings) -> Route:
    """Returns the route of a path that no transcoder knows."""
    exact = not public.path.endswith("/")
    read = HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET"))
    duration = _duration(public.behaviour, settings)
    return Route(
        name=f"{ROUTER_HTTP}{public.path}",
        # Below `/v1/models/` there are methods of our own as well, which are posted.
        match=RouteMatch(
            path=public.path if exact else None,
            prefix=None if exact else public.path,
            headers=() if exact else (read,),
        ),
        route=RouteAction(
            cluster=ROUTER_HTTP,
            timeout=_UNLIMITED,
            # Whether an answer is a stream is said in the body. The service keeps the time of
            # whole answers, and each piece of a stream comes within a model's timeout.
            idle_timeout=timedelta(seconds=settings.max_deadline_seconds),
            max_stream_duration=duration,
            retry_policy=_retry_policy(public.behaviour),
        ),
        typed_per_filter_config=_config(needing(scope_of(public.behaviour), settings)),
    )


def _config(of_filters: Mapping[str, Message]) -> Mapping[str, Message] | None:
    return of_filters or None


def _duration(behaviour: Behaviour, settings: GatewaySettings) -> MaxStreamDuration:
    """Returns how long a call may take, without and with a deadline of the client."""
    if behaviour in {Behaviour.STREAM, Behaviour.WRITE_STREAM}:
        return MaxStreamDuration(max_stream_duration=_UNLIMITED, grpc_timeout_header_max=_UNLIMITED)
    without = (
        settings.long_poll_seconds
        if behaviour is Behaviour.LONG_POLL
        else settings.default_deadline_seconds
    )
    return MaxStreamDuration(
        max_stream_duration=timedelta(seconds=without),
        grpc_timeout_header_max=timedelta(seconds=settings.max_deadline_seconds),
    )


def _retry_policy(behaviour: Behaviour) -> RetryPolicy:
    return RetryPolicy(
        retry_on=_RETRY_ON[behaviour],
        num_retries=2,
        retry_host_predicate=(
            TypedConfig(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=PreviousHosts()
            ),
        ),
        host_selection_retry_max_attempts=3,
        retry_back_off=RetryBackOff(
            base_interval=timedelta(milliseconds=25), max_interval=timedelta(milliseconds=250)
        ),
    )
