"""Metrics and readiness for whoever may not reach the admin interface.

That interface can stop Envoy and tells all of its configuration, so that it stays on the
loopback address. Two of its pages are what a scraper and a probe on other machines need.
"""

from datetime import timedelta

from gateway.edge.clusters import ADMIN_CLUSTER
from gateway.edge.limits import BUFFER_BYTES, TCP_KEEPALIVE
from gateway.envoy.core import HeaderMatcher, StringMatcher, TypedConfig, address
from gateway.envoy.filters import Router
from gateway.envoy.listener import FilterChain, InnerConnectionManager, Listener
from gateway.envoy.route import Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost
from gateway.settings import GatewaySettings

PAGES = ("/stats/prometheus", "/ready")

_TIMEOUT = timedelta(seconds=10)


def scrapes(settings: GatewaySettings) -> tuple[Listener, ...]:
    """Returns the listener of metrics and readiness; none without a port for it."""
    if settings.metrics_port == 0:
        return ()
    manager = TypedConfig(
        name="envoy.filters.network.http_connection_manager",
        typed_config=InnerConnectionManager(
            stat_prefix="scrapes",
            http_filters=(
                TypedConfig(
                    name="envoy.filters.http.router",
                    typed_config=Router(suppress_envoy_headers=True),
                ),
            ),
            route_config=RouteConfiguration(
                name="scrapes",
                virtual_hosts=(
                    VirtualHost(
                        name="scrapes",
                        domains=("*",),
                        routes=tuple(_route(page) for page in PAGES),
                    ),
                ),
            ),
        ),
    )
    return (
        Listener(
            name="scrapes",
            address=address(settings.host, settings.metrics_port),
            per_connection_buffer_limit_bytes=BUFFER_BYTES,
            tcp_keepalive=TCP_KEEPALIVE,
            filter_chains=(FilterChain(filters=(manager,)),),
        ),
    )


def _route(page: str) -> Route:
    read = HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET"))
    return Route(
        name=f"scrapes{page}",
        match=RouteMatch(path=page, headers=(read,)),
        route=RouteAction(cluster=ADMIN_CLUSTER, timeout=_TIMEOUT),
    )
