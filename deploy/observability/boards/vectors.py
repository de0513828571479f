"""Searches and writes of vectors."""

from typing import Final

from deploy.observability.boards.board import Board, Operation, Panel, Query, Row
from deploy.observability.boards.expressions import quantile, total

_SERVICE: Final = 'rpc_method=~"stepwire.api.vector.*"'
WALKS: Final = "stepwire_vector_searches_total"
_BY_INDEX: Final = 'stepwire_vector_plan=~"index|iterative"'
_CALLS: Final = "rpc_server_call_duration_seconds"

SEARCHES: Final = Row(
    "Searches",
    (
        Panel(
            title="Searches by the way they took",
            text="exact: every point was compared; index: the index was walked; iterative: walked "
            "until the filter had left enough.",
            queries=(
                Query(
                    total("stepwire_vector_searches_total", by="stepwire_vector_plan"),
                    "{{stepwire_vector_plan}}",
                ),
            ),
            unit="ops",
            stacked=True,
        ),
        Panel(
            title="Time of calls, p95",
            text="By method.",
            queries=(Query(quantile(0.95, _CALLS, _SERVICE, by="rpc_method"), "{{rpc_method}}"),),
            unit="s",
        ),
        Panel(
            title="Walks given up",
            text="Share of the searches by index that found too few and were done again exactly: "
            "raise STEPWIRE_VECTOR_HNSW_MAX_SCAN_TUPLES. docs/runbooks/walks-given-up.md",
            queries=(
                Query(
                    f"{total('stepwire_vector_walks_given_up_total')} / {total(WALKS, _BY_INDEX)}",
                    "given up",
                ),
            ),
            unit="percentunit",
        ),
    ),
)

POINTS: Final = Row(
    "Points and indexes",
    (
        Panel(
            title="Points",
            text="Written, deleted, expired per second.",
            queries=(
                Query(total("stepwire_vector_points_written_total"), "written"),
                Query(total("stepwire_vector_points_deleted_total"), "deleted"),
                Query(total("stepwire_vector_points_expired_total"), "expired"),
            ),
            unit="ops",
        ),
        Panel(
            title="Builds of indexes",
            text="In an hour, by how they ended. A failed one leaves searches exact: slow, not "
            "wrong. No data until one was built.",
            queries=(
                Query(
                    "sum by (stepwire_vector_state) "
                    "(increase(stepwire_vector_index_builds_total[1h]))",
                    "{{stepwire_vector_state}}",
                ),
            ),
        ),
        Panel(
            title="Queries kept to measure recall",
            text="Dropped: no room, or no Postgres. No data until a collection measures recall.",
            queries=(
                Query(total("stepwire_vector_queries_kept_total"), "kept"),
                Query(total("stepwire_vector_queries_dropped_total"), "dropped"),
            ),
            unit="ops",
        ),
        Panel(
            title="Connections to Postgres",
            text="In use, by pool, and how many there may be.",
            queries=(
                Query(
                    "sum by (db_client_connection_pool_name) (db_client_connection_count"
                    '{component="vector", db_client_connection_state="used"})',
                    "used {{db_client_connection_pool_name}}",
                ),
                Query(
                    "sum by (db_client_connection_pool_name) "
                    '(db_client_connection_max{component="vector"})',
                    "most {{db_client_connection_pool_name}}",
                ),
            ),
        ),
        Panel(
            title="Calls that failed",
            text="By code; NOT_FOUND and the like are the caller's.",
            queries=(
                Query(
                    total(
                        f"{_CALLS}_count",
                        f'rpc_response_status_code!="OK", {_SERVICE}',
                        by="rpc_response_status_code",
                    ),
                    "{{rpc_response_status_code}}",
                ),
            ),
            unit="ops",
        ),
    ),
)

BOARD: Final = Board(
    uid="stepwire-vectors",
    title="Stepwire / Vectors",
    text="How searches go, how fast they are, and what is written.",
    rows=(SEARCHES, POINTS),
    traces=(Operation("Traces of the vector service", "vector"),),
)
