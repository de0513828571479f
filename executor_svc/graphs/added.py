"""Steps that a step function adds to its task. Pure."""

from collections.abc import Collection
from dataclasses import replace

import orjson

from executor_svc.engine.records import Attempt
from executor_svc.graphs.compile import GraphLimits, compile_graph
from executor_svc.graphs.graph import Graph
from executor_svc.steps.kind import StepError
from stepwire.errors import Reason, StepwireError
from stepwire.sdk.functions import AddedSteps

# What is added goes through the worker, which does not know the service's settings.
LIMITS = GraphLimits(max_steps=1000, max_bytes=1024 * 1024, queues=None)
MAX_NESTED = 8


def compile_added(
    added: AddedSteps, attempt: Attempt, *, queues: Collection[str], limit_bytes: int
) -> tuple[Graph, bytes]:
    """Return the graph that is added, and its input as JSON.

    Args:
        added: what a step function has returned.
        attempt: the attempt that did so.
        queues: those that there are; none means any. In another one, steps would wait for ever.
        limit_bytes: longest input.

    Raises:
        StepError: the graph is not valid, its input is too large, or steps are added by added
            steps too often.
    """
    if attempt.step_id.count("/") >= MAX_NESTED:
        raise StepError(
            f"steps added by added steps are nested deeper than {MAX_NESTED}",
            reason=Reason.NESTED_TOO_DEEP,
            metadata={"limit": str(MAX_NESTED)},
        )
    try:
        limits = replace(LIMITS, queues=queues or None)
        graph = compile_graph(added.graph, limits=limits, field="added")
        data = orjson.dumps(added.input)
    except StepwireError as error:
        raise StepError(
            error.message, reason=error.reason, metadata=dict(error.metadata)
        ) from error
    except TypeError as error:
        raise StepError(f"the input of the added steps is not a JSON value: {error}") from None
    if len(data) > limit_bytes:
        raise StepError(
            f"the {len(data)} bytes of the added steps' input are more than {limit_bytes}",
            reason=Reason.OUTPUT_TOO_LARGE,
            metadata={"size_bytes": str(len(data)), "limit_bytes": str(limit_bytes)},
        )
    return graph, data
