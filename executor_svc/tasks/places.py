"""Which place a task needs under its graph's concurrency key. Pure."""

import orjson

from executor_svc.engine.records import Blob, Place
from executor_svc.graphs.expressions import EvaluationError
from executor_svc.graphs.graph import Graph
from stepwire.api.executor.v1.graph_pb2 import ConcurrencyPolicy
from stepwire.errors import field_invalid

MAX_KEY_CHARACTERS = 200
QUEUE = ConcurrencyPolicy.CONCURRENCY_POLICY_QUEUE
CANCEL_NEWEST = ConcurrencyPolicy.CONCURRENCY_POLICY_CANCEL_NEWEST


def place_of(graph: Graph, value: Blob, *, field: str) -> Place | None:
    """Return the place that a task of `graph` with the input `value` needs; None for none.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`, for an input that gives no key.
    """
    concurrency = graph.concurrency
    if concurrency is None:
        return None
    try:
        key = concurrency.key.evaluate({"input": orjson.loads(value.data)})
    except EvaluationError as error:
        raise field_invalid(field, f"gives no concurrency key: {error}") from None
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARACTERS or "\0" in key:
        raise field_invalid(
            field,
            f"gives no concurrency key: {concurrency.key.source!r} must give a text of 1 to"
            f" {MAX_KEY_CHARACTERS} characters, none of them U+0000",
        )
    return Place(key, concurrency.max_running, concurrency.policy)
