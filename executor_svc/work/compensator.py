"""Plans what undoes a task that has failed: its steps' compensations, last ended first."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson

from executor_svc.engine.failures import failed_by
from executor_svc.engine.outcomes import Added, Compensated, Outcome, Waits
from executor_svc.engine.ports import StepStore
from executor_svc.engine.records import Attempt, Done, StepAddress, StepState
from executor_svc.graphs.cache import ACCEPTED
from executor_svc.graphs.compile import compile_graph
from executor_svc.graphs.expressions import Expression
from executor_svc.graphs.graph import Compensation, Graph
from stepwire.api.executor.v1 import graph_pb2
from stepwire.payload import NULL

# Steps that were running when the task failed are waited for: they may have to be undone.
PAUSE = timedelta(milliseconds=200)
REPORT = "report"
MAX_NAME_CHARACTERS = 55


class Compensator:
    """Runs the step `~undo` of a task."""

    def __init__(self, store: StepStore) -> None:
        self._store = store

    async def run(self, graph: Graph, attempt: Attempt) -> Outcome:
        """Add the compensations to the task, or tell which of them failed."""
        try:
            if attempt.added_graph is not None:
                endings = await self._store.endings(attempt.task.task_id, scope=attempt.step_id)
                return Compensated(
                    [
                        step_id.rpartition("/")[2]
                        for step_id, state in endings.items()
                        if state is StepState.FAILED
                    ]
                )
            steps = await self._store.undoable(attempt.task.task_id)
            if steps is None:
                return Waits("steps", wait=PAUSE)
            return await self._plan(graph, attempt, steps)
        except Exception as error:  # noqa: BLE001 - an outcome, never a crash
            return failed_by(error)

    async def _plan(self, graph: Graph, attempt: Attempt, steps: Sequence[Done]) -> Outcome:
        planned = graph_pb2.Graph()
        inputs: dict[str, Any] = {}
        for record in steps:
            step = graph.steps[record.ordinal]
            compensation = step.compensation
            # Of a for_each step the items are undone.
            if compensation is None or (step.for_each is not None and record.item is None):
                continue
            name = _name(record, set(inputs))
            inputs[name] = await self._input(graph, attempt, record, compensation)
            _add(planned, name, step.queue, compensation)
        if not inputs:
            return Compensated([])
        # It is the only one that nothing depends on, so that all run whatever becomes of any.
        report = planned.steps.add(name=REPORT, depends_on=list(inputs))
        report.join.mode = graph_pb2.JOIN_MODE_ALL_DONE
        report.transform.expression = "states"
        compiled = compile_graph(planned, limits=ACCEPTED, field="compensation")
        await self._store.add_graph(compiled)
        return Added(compiled, orjson.dumps(inputs))

    async def _input(
        self, graph: Graph, attempt: Attempt, record: Done, compensation: Compensation
    ) -> Any:
        step = graph.steps[record.ordinal]
        names = () if compensation.input is None else _reads(compensation.input, step.depends_on)
        wanted = [record.step_id, *names]
        blobs = await self._store.outputs(
            [StepAddress(attempt.task.task_id, step_id) for step_id in wanted]
        )
        values = [orjson.loads(NULL if blob is None else blob.data) for blob in blobs]
        if compensation.input is None:
            return values[0]
        scope = {
            "input": orjson.loads(attempt.task.input.data),
            "steps": dict(zip(names, values[1:], strict=True)),
            "output": values[0],
        }
        return compensation.input.evaluate(scope)


def _reads(expression: Expression, depends_on: Sequence[str]) -> Sequence[str]:
    return tuple(depends_on) if expression.steps is None else sorted(expression.steps)


def _name(record: Done, taken: set[str]) -> str:
    """Name what undoes a step after it, or after the item."""
    name = record.step_id.replace("[", "_").rstrip("]")[:MAX_NAME_CHARACTERS]
    while name in taken or name == REPORT:
        name += "_"
    return name


def _add(planned: graph_pb2.Graph, name: str, queue: str, compensation: Compensation) -> None:
    message = compensation.spec
    step = planned.steps.add(name=name, input=f"input.{name}", queue=message.queue or queue)
    step.retry.CopyFrom(message.retry)
    step.timeout.CopyFrom(message.timeout)
    kind = message.WhichOneof("kind")
    getattr(step, kind).CopyFrom(getattr(message, kind))
    if len(planned.steps) > 1:
        step.depends_on.append(planned.steps[-2].name)
        step.join.mode = graph_pb2.JOIN_MODE_ALL_DONE
