"""Plans what undoes a task that has failed: its steps' compensations, last ended first."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Any

import orjson

from executor_svc.engine.failures import failed_by
from executor_svc.engine.outcomes import Added, Compensated, Outcome, Waits
from executor_svc.engine.ports import StepStore
from executor_svc.engine.records import Attempt, Done, StepAddress, StepState
from executor_svc.graphs.cache import ACCEPTED, NewerGraphError
from executor_svc.graphs.compile import compile_graph
from executor_svc.graphs.expressions import Expression
from executor_svc.graphs.graph import Compensation, Graph, Step
from executor_svc.work.patience import outlast
from stepwire.api.executor.v1 import graph_pb2
from stepwire.payload import NULL

LoadGraph = Callable[[bytes], Awaitable[Graph]]
"""Returns a graph that was accepted; raises NewerGraphError for one that this code cannot run."""

# Steps that were running when the task failed are waited for: they may have to be undone.
PAUSE = timedelta(milliseconds=200)
REPORT = "report"
# There is room behind it for a number.
MAX_NAME_CHARACTERS = 55
PLAIN = str.maketrans({"[": "_", "/": "_", "]": None})


class Compensator:
    """Runs the step `~undo` of a task."""

    def __init__(self, store: StepStore, load: LoadGraph) -> None:
        self._store = store
        self._load = load

    async def run(self, graph: Graph, attempt: Attempt) -> Outcome:
        """Add the compensations to the task, or tell which of them failed.

        Raises:
            NewerGraphError: this code cannot run a graph that a step has added.
        """
        try:
            return await outlast(lambda: self._run(graph, attempt), as_long_as=lambda: True)
        except NewerGraphError:
            raise
        except Exception as error:  # noqa: BLE001 - an outcome, never a crash
            return failed_by(error)

    async def _run(self, graph: Graph, attempt: Attempt) -> Outcome:
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

    async def _plan(self, graph: Graph, attempt: Attempt, steps: Sequence[Done]) -> Outcome:
        planned = graph_pb2.Graph()
        inputs: dict[str, Any] = {}
        scopes = _Scopes(self._store, attempt)
        for record in steps:
            of = graph if record.graph_hash is None else await self._load(record.graph_hash)
            step = of.steps[record.ordinal]
            compensation = step.compensation
            # Of a for_each step the items are undone.
            if compensation is None or (step.for_each is not None and record.item is None):
                continue
            name = _name(record, inputs)
            inputs[name] = await self._input(step, scopes, record, compensation)
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
        self, step: Step, scopes: "_Scopes", record: Done, compensation: Compensation
    ) -> Any:
        names = () if compensation.input is None else _reads(compensation.input, step.depends_on)
        wanted = [record.step_id, *(record.sibling(name) for name in names)]
        blobs = await self._store.outputs([scopes.address(step_id) for step_id in wanted])
        values = [orjson.loads(NULL if blob is None else blob.data) for blob in blobs]
        if compensation.input is None:
            return values[0]
        scope = {
            "input": await scopes.input_of(record),
            "steps": dict(zip(names, values[1:], strict=True)),
            "output": values[0],
        }
        return compensation.input.evaluate(scope)


class _Scopes:
    """What the steps of a task's own graph, and of those that its steps have added, were given."""

    def __init__(self, store: StepStore, attempt: Attempt) -> None:
        self._store = store
        self._task = attempt.task
        self._inputs: dict[str | None, bytes] = {None: attempt.task.input.data}

    def address(self, step_id: str) -> StepAddress:
        return StepAddress(self._task.task_id, step_id)

    async def input_of(self, record: Done) -> Any:
        """Return what the expressions of a step see as `input`."""
        if record.scope is not None and record.scope not in self._inputs:
            self._inputs[record.scope] = await self._store.added_input(self.address(record.scope))
        return orjson.loads(self._inputs[record.scope])


def _reads(expression: Expression, depends_on: Sequence[str]) -> Sequence[str]:
    return tuple(depends_on) if expression.steps is None else sorted(expression.steps)


def _name(record: Done, taken: Collection[str]) -> str:
    """Name what undoes a step after it: after the item, and after what has added it."""
    plain = name = record.step_id.translate(PLAIN)[:MAX_NAME_CHARACTERS]
    number = 1
    while name in taken or name == REPORT:
        number += 1
        name = f"{plain}_{number}"
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
