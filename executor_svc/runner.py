"""Runs one attempt: gathers its input, lets its kind work, turns the end into an outcome."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from opentelemetry.trace import SpanKind, Status, StatusCode

from executor_svc.dispatch import Memo
from executor_svc.expressions import EvaluationError
from executor_svc.graph import Graph, Step
from executor_svc.graphs import GraphCache
from executor_svc.patience import outlast
from executor_svc.ports import StepStore
from executor_svc.records import Attempt, Blob, Failure
from executor_svc.state_machine import Expanded, Failed, Outcome, Succeeded
from executor_svc.steps.kind import Kind, StepCall, StepError
from stepwire.batcher import Batcher
from stepwire.call import call_context
from stepwire.errors import Reason, StepwireError
from stepwire.payload import JSON, MAX_NESTING, NULL, nesting
from stepwire.sdk.functions import StepContext
from stepwire.telemetry import context_from_traceparent, names, tracer

MAX_MESSAGE_CHARACTERS = 4096
# The items of a for_each step together, in largest outputs.
MAX_ITEMS_OUTPUTS = 16
# Reasons that may pass: the same call could succeed later.
PASSING = frozenset(
    {
        Reason.DEADLINE_EXCEEDED,
        Reason.OVERLOADED,
        Reason.DEPENDENCY_UNAVAILABLE,
        Reason.PROVIDER_UNAVAILABLE,
        Reason.INTERNAL,
    }
)


class StepRunner:
    """See `executor_svc.dispatch.Runner`."""

    def __init__(
        self,
        store: StepStore,
        kinds: Mapping[str, Kind],
        *,
        max_output_bytes: int,
        max_items: int,
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._max_output_bytes = max_output_bytes
        self._max_items = max_items
        self._graphs = GraphCache()
        self._outputs: Batcher[tuple[UUID, str], Blob | None] = Batcher(
            "outputs", self._read_outputs
        )

    async def graph(self, graph_hash: bytes) -> Graph:
        """Return the compiled graph of a task."""
        return await outlast(
            lambda: self._graphs.load(graph_hash, self._store.read_graph),
            as_long_as=lambda: True,
        )

    async def run(self, attempt: Attempt, memo: Memo) -> Outcome:
        """Run an attempt; whatever goes wrong in it is an outcome."""
        if attempt.items is not None:
            return Succeeded(None)
        try:
            graph = await self.graph(attempt.task.graph_hash)
            step = graph.steps[attempt.ordinal]
            with tracer().start_as_current_span(
                f"step {step.name}",
                context=context_from_traceparent(attempt.task.traceparent),
                kind=SpanKind.CONSUMER,
                attributes={
                    names.TASK_ID: str(attempt.task.task_id),
                    names.STEP_ID: attempt.step_id,
                    names.STEP_KIND: step.kind,
                    names.ATTEMPT: attempt.attempt,
                    names.QUEUE: step.queue,
                },
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                outcome = await self._run(step, attempt, memo)
                if isinstance(outcome, Failed):
                    span.set_status(Status(StatusCode.ERROR, outcome.failure.message))
                    span.set_attribute(names.REASON, outcome.failure.reason)
                return outcome
        except Exception as error:  # noqa: BLE001 - an outcome, never a crash
            return _failed(error)

    async def _run(self, step: Step, attempt: Attempt, memo: Memo) -> Outcome:
        deadline = time.monotonic() + step.timeout.total_seconds()
        try:
            async with asyncio.timeout_at(_loop_time(deadline)) as timer:
                with call_context(
                    tenant_id=attempt.task.tenant_id,
                    request_id=str(attempt.task.task_id),
                    deadline=deadline,
                ):
                    return await self._work(step, attempt, memo)
        except TimeoutError as error:
            if not timer.expired():
                return _failed(error)
            return Failed(
                Failure(
                    Reason.STEP_TIMED_OUT,
                    f"the attempt ran longer than {step.timeout.total_seconds():g} s",
                    {"timeout_seconds": f"{step.timeout.total_seconds():g}"},
                )
            )
        except asyncio.CancelledError as error:
            worker = asyncio.current_task()
            if worker is None or worker.cancelling():
                raise
            # Not the worker was cancelled, but something that the step waited for.
            return _failed(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an outcome, never a crash
            return _failed(error)

    async def _work(self, step: Step, attempt: Attempt, memo: Memo) -> Outcome:
        scope = await self._scope(step, attempt, memo)
        if step.for_each is not None and attempt.item is None:
            return self._expand(step.for_each.evaluate(scope))
        value = _input(step, attempt, scope)
        call = StepCall(
            spec=step.spec,
            value=value,
            evaluate=lambda expression: expression.evaluate({**scope, "value": value}),
            template=step.template,
            context=StepContext(
                task_id=str(attempt.task.task_id),
                step_id=attempt.step_id,
                attempt=attempt.attempt,
                tenant_id=attempt.task.tenant_id,
            ),
        )
        output = await self._kinds[step.kind].run(call)
        data = self._encode(output)
        if attempt.item is None:
            memo[step.name] = data
        return Succeeded(Blob(data, JSON))

    async def _scope(self, step: Step, attempt: Attempt, memo: Memo) -> dict[str, Any]:
        """Return what the expressions of an attempt see."""
        wanted = step.reads(item=attempt.item is not None, expanded=False)
        missing = [name for name in wanted if name not in memo]
        blobs = await asyncio.gather(
            *(self._outputs.submit((attempt.task.task_id, name)) for name in missing)
        )
        for name, blob in zip(missing, blobs, strict=True):
            memo[name] = NULL if blob is None else blob.data
        # Every attempt gets values of its own: a function may change what it is given.
        scope: dict[str, Any] = {
            "input": orjson.loads(attempt.task.input.data),
            "steps": {name: orjson.loads(memo[name]) for name in wanted},
        }
        if attempt.item is not None:
            scope["item"] = orjson.loads(attempt.item_input or b"null")
            scope["index"] = attempt.item
        return scope

    def _expand(self, items: Any) -> Outcome:
        if not isinstance(items, list):
            raise StepError(
                f"for_each: must give a list, not {type(items).__name__}",
                reason=Reason.FIELD_INVALID,
                metadata={"field": "for_each"},
            )
        if len(items) > self._max_items:
            raise StepError(
                f"for_each: {len(items)} items are more than {self._max_items}",
                reason=Reason.FIELD_INVALID,
                metadata={"field": "for_each", "limit": str(self._max_items)},
            )
        limit = MAX_ITEMS_OUTPUTS * self._max_output_bytes
        encoded, size = [], 0
        for item in items:
            encoded.append(orjson.dumps(item))
            size += len(encoded[-1])
            if size > limit:
                raise StepError(
                    f"for_each: the items are more than {limit} bytes",
                    reason=Reason.OUTPUT_TOO_LARGE,
                    metadata={"limit_bytes": str(limit)},
                )
        return Expanded(encoded)

    def _encode(self, output: Any) -> bytes:
        try:
            data = orjson.dumps(output, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            raise StepError(f"the output is not a JSON value: {error}") from None
        if len(data) > self._max_output_bytes:
            raise StepError(
                f"the output's {len(data)} bytes are more than {self._max_output_bytes}",
                reason=Reason.OUTPUT_TOO_LARGE,
                metadata={
                    "size_bytes": str(len(data)),
                    "limit_bytes": str(self._max_output_bytes),
                },
            )
        if nesting(output) > MAX_NESTING:
            raise StepError(f"the output is nested deeper than {MAX_NESTING} levels")
        return data

    async def _read_outputs(
        self, wanted: Sequence[tuple[UUID, str]]
    ) -> Sequence[Blob | BaseException | None]:
        return await outlast(lambda: self._store.outputs(wanted), as_long_as=lambda: True)


def _input(step: Step, attempt: Attempt, scope: Mapping[str, Any]) -> Any:
    """Return the step's input: what its expression gives, or the default of graph.proto."""
    if step.input is not None:
        return step.input.evaluate(scope)
    if attempt.item is not None:
        return scope["item"]
    if len(step.depends_on) == 1:
        return scope["steps"][step.depends_on[0]]
    return dict(scope["steps"]) if step.depends_on else scope["input"]


def _failed(error: BaseException) -> Failed:
    """Turn what an attempt raised into its failure."""
    match error:
        case StepError():
            return Failed(
                Failure(error.reason, _cut(str(error)), _cut_all(error.metadata)),
                retryable=error.retryable,
                retry_after=error.retry_after,
            )
        case StepwireError():
            return Failed(
                Failure(error.reason, _cut(error.message), _cut_all(error.metadata)),
                retryable=error.reason in PASSING,
                retry_after=error.retry_after,
            )
        case EvaluationError():
            return Failed(Failure(Reason.EXPRESSION_INVALID, _cut(str(error))), retryable=False)
    name = type(error).__name__
    return Failed(Failure(Reason.STEP_FAILED, _cut(f"{name}: {error}"), {"exception": name}))


def _cut(text: str) -> str:
    """Return what the record can hold of a text: no U+0000, no half of a surrogate pair."""
    short = text[:MAX_MESSAGE_CHARACTERS].replace("\0", "")
    return short.encode("utf-8", "replace").decode()


def _cut_all(metadata: Mapping[str, str]) -> Mapping[str, str]:
    return {_cut(name): _cut(value) for name, value in metadata.items()}


def _loop_time(deadline: float) -> float:
    """Turn a time of `time.monotonic()` into one of the event loop's clock."""
    return asyncio.get_running_loop().time() + deadline - time.monotonic()
