"""Envoy: what clients get, and how it finds the services."""

from typing import Final

from deploy.observability.boards.board import Board, Operation, Panel, Query, Row, Variable
from deploy.observability.boards.expressions import rate, total

_EDGE: Final = 'envoy_http_conn_manager_prefix="edge"'
_GRPC: Final = "envoy_cluster_grpc_total"
_SERVICE: Final = 'envoy_cluster_name=~"$service"'


def _clusters(metric: str) -> Query:
    return Query(f"sum by (envoy_cluster_name) ({metric}{{{_SERVICE}}})", "{{envoy_cluster_name}}")


def _per_second(metric: str, name: str) -> Query:
    return Query(
        f"sum by (envoy_cluster_name) ({rate(metric, _SERVICE)})",
        f"{name} {{{{envoy_cluster_name}}}}",
    )


def _milliseconds(share: float, metric: str, matchers: str, by: str) -> str:
    return f"histogram_quantile({share}, {total(f'{metric}_bucket', matchers, by=by)})"


CLIENTS: Final = Row(
    "Clients",
    (
        Panel(
            title="Requests by class",
            text="Of HTTP; a gRPC call that failed is a 2 here, as its status is in the trailers. "
            "5: the gateway or a service. docs/runbooks/gateway-errors.md",
            queries=(
                Query(
                    total("envoy_http_downstream_rq_xx", _EDGE, by="envoy_response_code_class"),
                    "{{envoy_response_code_class}}xx",
                ),
            ),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            title="Time of requests",
            text="At the edge, streams included: these last as long as somebody watches.",
            queries=tuple(
                Query(_milliseconds(share, "envoy_http_downstream_rq_time", _EDGE, "le"), name)
                for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
            unit="ms",
        ),
        Panel(
            title="Calls whose key was checked",
            text="By the reason of a refusal. Nothing where no keys are asked for.",
            queries=(
                Query(
                    total("stepwire_gateway_key_checks_total", 'stepwire_reason=""'),
                    "passed",
                ),
                Query(
                    total(
                        "stepwire_gateway_key_checks_total",
                        'stepwire_reason!=""',
                        by="stepwire_reason",
                    ),
                    "{{stepwire_reason}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Connections and requests under way",
            text="Of clients.",
            queries=(
                Query(f"sum(envoy_http_downstream_cx_active{{{_EDGE}}})", "connections"),
                Query(f"sum(envoy_http_downstream_rq_active{{{_EDGE}}})", "requests"),
            ),
        ),
    ),
)

SERVICES: Final = Row(
    "Services behind it",
    (
        Panel(
            title="Instances that are well",
            text="As Envoy's health checks see them. 0: nothing of it is reached. "
            "docs/runbooks/no-healthy-instance.md",
            queries=(_clusters("envoy_cluster_membership_healthy"),),
        ),
        Panel(
            title="gRPC calls by method",
            text="As passed on to services.",
            queries=(
                Query(
                    f"topk(12, {total(_GRPC, _SERVICE, by='envoy_grpc_bridge_method')})",
                    "{{envoy_grpc_bridge_method}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Time of services, p95",
            text="From Envoy's side.",
            queries=(
                Query(
                    _milliseconds(
                        0.95, "envoy_cluster_upstream_rq_time", _SERVICE, "le, envoy_cluster_name"
                    ),
                    "{{envoy_cluster_name}}",
                ),
            ),
            unit="ms",
        ),
        Panel(
            title="Requests under way",
            text="By service.",
            queries=(_clusters("envoy_cluster_upstream_rq_active"),),
        ),
        Panel(
            title="Retries, time-outs, refusals",
            text="overflow: as many waited as may, and one more was refused; it is too slow "
            "or too few.",
            queries=(
                _per_second("envoy_cluster_upstream_rq_retry", "retry"),
                _per_second("envoy_cluster_upstream_rq_timeout", "time-out"),
                _per_second("envoy_cluster_upstream_rq_pending_overflow", "overflow"),
                _per_second("envoy_cluster_upstream_rq_retry_overflow", "retry refused"),
            ),
            unit="ops",
        ),
        Panel(
            title="Instances put aside, connections refused",
            text="Put aside for failing; they come back by themselves.",
            queries=(
                _clusters("envoy_cluster_outlier_detection_ejections_active"),
                _per_second("envoy_cluster_upstream_cx_connect_fail", "connect failed per s"),
            ),
        ),
        Panel(
            title="Health told",
            text="Answers of the companion about services; NOT_SERVING is what clients were told.",
            queries=(
                Query(
                    total(
                        "stepwire_gateway_health_answers_total",
                        'stepwire_gateway_status!="SERVING"',
                        by="stepwire_gateway_service, stepwire_gateway_status",
                    ),
                    "{{stepwire_gateway_service}} {{stepwire_gateway_status}}",
                ),
                Query(total("stepwire_gateway_health_answers_total"), "all"),
            ),
            unit="ops",
        ),
        Panel(
            title="Envoy's memory",
            text="Allocated.",
            queries=(Query("sum by (instance) (envoy_server_memory_allocated)", "{{instance}}"),),
            unit="bytes",
        ),
    ),
)

BOARD: Final = Board(
    uid="stepwire-gateway",
    title="Stepwire / Gateway",
    text="What clients get from the gateway, and how it finds the services.",
    rows=(CLIENTS, SERVICES),
    variables=(
        Variable("service", "Service", "envoy_cluster_membership_total", "envoy_cluster_name"),
    ),
    traces=(Operation("Traces at the gateway", "gateway"),),
)
