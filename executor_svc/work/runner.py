"""Runs one attempt: gathers its input, lets its kind work, turns the end into an outcome."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson
from opentelemetry.trace import Span

from executor_svc.engine.decisions import (
    begin,
    collected,
    gathered,
    may_decide_now,
    unsatisfied,
    want_of,
)
from executor_svc.engine.declining import decline, decline_graph
from executor_svc.engine.failures import failed_by, ran_out, silent, timed_out
from executor_svc.engine.outcomes import Added, Failed, Outcome, Waits
from executor_svc.engine.outputs import encode_output
from executor_svc.engine.ports import StepStore, Want
from executor_svc.engine.records import Attempt, Blob, Phase, StepAddress
from executor_svc.engine.scope import Memo, input_of, scope_of, states_of
from executor_svc.engine.state_machine import UNDO_MARK
from executor_svc.graphs.added import compile_added
from executor_svc.graphs.cache import GraphCache, NewerGraphError
from executor_svc.graphs.graph import Graph, JoinMode, Step
from executor_svc.steps.kind import InstantKind, Kind, StepCall
from executor_svc.steps.python import FunctionMissingError
from executor_svc.work.compensator import Compensator
from executor_svc.work.heartbeats import Heartbeats
from executor_svc.work.patience import outlast
from executor_svc.work.spans import mark_failed, step_span
from stepwire.batcher import Batcher
from stepwire.call import call_context
from stepwire.errors import StepwireError
from stepwire.payload import NULL
from stepwire.sdk.functions import AddedSteps, StepContext
from stepwire.telemetry import is_sampled

Acquire = Callable[[Want], Awaitable[bool]]
"""Takes a place under a limit; False when the step waits for one from now on."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of what attempts may do: the worker's settings."""

    max_output_bytes: int
    max_items: int
    max_losses: int
    function_wait_seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt and how it ended; `graph` is None for one that was declined."""

    attempt: Attempt
    graph: Graph | None
    outcome: Outcome

    @property
    def kind(self) -> str:
        """Kind of the step, for metrics."""
        if self.graph is None or self.attempt.ordinal < 0:
            return "unknown" if self.graph is None else "compensation"
        return self.graph.steps[self.attempt.ordinal].kind

    @property
    def result(self) -> str:
        """How the attempt ended, for metrics."""
        return type(self.outcome).__name__.lower()


class StepRunner:
    """See `executor_svc.work.dispatch.Runner`."""

    def __init__(
        self,
        store: StepStore,
        kinds: Mapping[str, Kind],
        heartbeats: Heartbeats,
        *,
        limits: RunLimits,
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._instant: dict[str, InstantKind] = {}
        for name, kind in kinds.items():
            if isinstance(kind, InstantKind):
                self._instant[name] = kind
        self._heartbeats = heartbeats
        self._limits = limits
        self._graphs = GraphCache()
        self._compensator = Compensator(store, self._graph)
        self._outputs: Batcher[StepAddress, Blob | None] = Batcher("outputs", self._read_outputs)

    def run_now(self, attempt: Attempt, memo: Memo) -> Ended | None:
        """Run an attempt that needs no I/O; None for one that does."""
        graph = self._graphs.get(attempt.graph_hash)
        if graph is None or attempt.ordinal < 0 or is_sampled(attempt.task.traceparent):
            return None
        step = graph.steps[attempt.ordinal]
        if not may_decide_now(step, attempt, memo, instant=step.kind in self._instant):
            return None
        try:
            scope = scope_of(attempt, _names(step, attempt), memo)
            outcome = begin(step, attempt, scope, limits=self._limits)
            if outcome is None:
                value = input_of(step, attempt, scope)
                call = self._call(step, attempt, scope, value, _no_heartbeat)
                output = self._instant[step.kind].run_now(call)
                outcome = encode_output(output, limit_bytes=self._limits.max_output_bytes)
        except Exception as error:  # noqa: BLE001 - an outcome, never a crash
            outcome = failed_by(error)
        return Ended(attempt, graph, outcome)

    async def run(self, attempt: Attempt, memo: Memo, acquire: Acquire) -> Ended | None:
        """Run an attempt; whatever goes wrong in it is an outcome.

        None when the step waits for a place under its limit, and is no longer the worker's.
        """
        try:
            graph = await self._graph(attempt.graph_hash)
        except NewerGraphError:
            return Ended(attempt, None, decline_graph())
        if attempt.step_id.startswith(UNDO_MARK) and attempt.ordinal < 0:
            try:
                return Ended(attempt, graph, await self._compensator.run(graph, attempt))
            except NewerGraphError:
                # The graph is one that a step has added.
                return Ended(attempt, None, decline_graph())
        step = graph.steps[attempt.ordinal]
        sampled = is_sampled(attempt.task.traceparent)
        with step_span(step, attempt) if sampled else nullcontext() as span:
            ended = await self._run(step, attempt, memo, acquire)
            if ended is None:
                return None
            attempt, outcome = ended
            if isinstance(outcome, Failed):
                await self._heartbeats.keep(attempt)
            _tell(span, outcome)
        return Ended(attempt, graph, outcome)

    async def _run(
        self, step: Step, attempt: Attempt, memo: Memo, acquire: Acquire
    ) -> tuple[Attempt, Outcome] | None:
        try:
            scope = await self._scope(step, attempt, memo)
            outcome = begin(step, attempt, scope, limits=self._limits)
            if outcome is None and attempt.phase is Phase.UNSATISFIED:
                outcome = unsatisfied(step, await self._states(step, attempt))
            if outcome is None and attempt.phase is Phase.CAME and attempt.items is not None:
                outcome = await self._gather(step, attempt)
            if outcome is None and attempt.phase is Phase.NEW and step.limit is not None:
                want = want_of(step.limit, attempt, scope)
                if not await acquire(want):
                    return None
                attempt = replace(attempt, phase=Phase.PLACED)
            if outcome is None:
                outcome = await self._work(step, attempt, scope)
        except (FunctionMissingError, NewerGraphError) as error:
            # The graph is that of the steps that this one has added.
            outcome = decline(attempt, error, self._limits.function_wait_seconds)
        except asyncio.CancelledError as error:
            worker = asyncio.current_task()
            if worker is None or worker.cancelling():
                raise
            # Not the worker was cancelled, but something that the step waited for.
            outcome = failed_by(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an outcome, never a crash
            outcome = failed_by(error)
        return attempt, outcome

    async def _work(self, step: Step, attempt: Attempt, scope: dict[str, Any]) -> Outcome:
        value = input_of(step, attempt, scope)
        seconds = _seconds_left(step, attempt)
        deadline = time.monotonic() + seconds
        silence = None
        if step.heartbeat_timeout is not None:
            silence = step.heartbeat_timeout.total_seconds()
        try:
            async with (
                asyncio.timeout(seconds) as timer,
                # Where no heartbeats are expected there is no second clock.
                nullcontext() if silence is None else asyncio.timeout(silence) as pulse,
            ):
                with call_context(
                    tenant_id=attempt.task.tenant_id,
                    request_id=str(attempt.task.task_id),
                    deadline=deadline,
                    traceparent=attempt.task.traceparent,
                ):
                    beat = self._heartbeats.beat(attempt, pulse, silence)
                    call = self._call(step, attempt, scope, value, beat)
                    output = await self._kinds[step.kind].run(call)
        except TimeoutError as error:
            if silence is not None and pulse is not None and pulse.expired():
                return silent(silence)
            return timed_out(seconds) if timer.expired() else failed_by(error)
        except StepwireError as error:
            if not ran_out(error, seconds=seconds, left=deadline - time.monotonic()):
                raise
            return timed_out(seconds, told=error)
        if isinstance(output, Waits):
            return output
        if isinstance(output, AddedSteps):
            return await self._add(attempt, output)
        return encode_output(output, limit_bytes=self._limits.max_output_bytes)

    async def _add(self, attempt: Attempt, output: AddedSteps) -> Outcome:
        queues = await outlast(self._store.queues, as_long_as=lambda: True)
        graph, added = compile_added(
            output, attempt, queues=queues, limit_bytes=self._limits.max_output_bytes
        )
        await outlast(lambda: self._store.add_graph(graph), as_long_as=lambda: True)
        self._graphs.put(graph)
        return Added(graph, added)

    def _call(
        self,
        step: Step,
        attempt: Attempt,
        scope: dict[str, Any],
        value: Any,
        beat: Callable[[Any], None],
    ) -> StepCall:
        return StepCall(
            spec=step.spec,
            value=value,
            evaluate=lambda expression: expression.evaluate({**scope, "value": value}),
            template=step.template,
            context=StepContext(
                task_id=str(attempt.task.task_id),
                step_id=attempt.step_id,
                attempt=attempt.attempt,
                tenant_id=attempt.task.tenant_id,
                last_heartbeat=orjson.loads(attempt.heartbeat or NULL),
                on_heartbeat=beat,
            ),
            attempt=attempt,
            came=attempt.phase is Phase.CAME,
        )

    async def _graph(self, graph_hash: bytes) -> Graph:
        return await outlast(
            lambda: self._graphs.load(graph_hash, self._store.read_graph),
            as_long_as=lambda: True,
        )

    async def _scope(self, step: Step, attempt: Attempt, memo: Memo) -> dict[str, Any]:
        names = _names(step, attempt)
        await self._read(attempt, [attempt.sibling(name) for name in names], memo)
        scope = scope_of(attempt, names, memo)
        if step.reads_states:
            scope["states"] = await self._states(step, attempt)
        return scope

    async def _read(self, attempt: Attempt, step_ids: Sequence[str], memo: Memo) -> None:
        missing = [step_id for step_id in step_ids if step_id not in memo]
        if not missing:
            return
        wanted = [StepAddress(attempt.task.task_id, step_id) for step_id in missing]
        blobs = await asyncio.gather(*(self._outputs.submit(address) for address in wanted))
        for step_id, blob in zip(missing, blobs, strict=True):
            if blob is not None:
                memo[step_id] = blob.data

    async def _states(self, step: Step, attempt: Attempt) -> dict[str, str]:
        scope = None if attempt.scope is None else attempt.scope.step_id
        endings = await outlast(
            lambda: self._store.endings(attempt.task.task_id, scope=scope),
            as_long_as=lambda: True,
        )
        return states_of(step, attempt, endings)

    async def _gather(self, step: Step, attempt: Attempt) -> Outcome:
        """Finish a step whose items, or whose added steps, have ended."""
        if attempt.added_graph is None:
            return await self._gather_items(step, attempt)
        graph = await self._graph(attempt.added_graph)
        memo = Memo()
        ids = {sink.name: f"{attempt.step_id}/{sink.name}" for sink in graph.sinks}
        await self._read(attempt, list(ids.values()), memo)
        outputs = {name: orjson.loads(memo.get(step_id, NULL)) for name, step_id in ids.items()}
        output = next(iter(outputs.values())) if len(outputs) == 1 else outputs
        return encode_output(output, limit_bytes=self._limits.max_output_bytes)

    async def _gather_items(self, step: Step, attempt: Attempt) -> Outcome:
        address = StepAddress(attempt.task.task_id, attempt.step_id)
        if step.items_join.mode is JoinMode.AT_LEAST:
            endings = await outlast(
                lambda: self._store.item_endings(address), as_long_as=lambda: True
            )
            outcome = gathered(step, endings)
            if isinstance(outcome, Failed):
                return outcome
        size = await outlast(lambda: self._store.collected_bytes(address), as_long_as=lambda: True)
        return collected(size, limit_bytes=self._limits.max_output_bytes)

    async def _read_outputs(
        self, wanted: Sequence[StepAddress]
    ) -> Sequence[Blob | BaseException | None]:
        return await outlast(lambda: self._store.outputs(wanted), as_long_as=lambda: True)


def _names(step: Step, attempt: Attempt) -> frozenset[str]:
    """Names of the steps whose outputs an attempt needs."""
    if attempt.items is not None or attempt.phase is Phase.UNSATISFIED:
        return frozenset()
    if attempt.item is not None:
        return step.reads_run
    return step.reads_when | (step.reads_items if step.for_each else step.reads_run)


def _seconds_left(step: Step, attempt: Attempt) -> float:
    seconds = step.timeout.total_seconds()
    if attempt.expires_at is None:
        return seconds
    return min(seconds, (attempt.expires_at - datetime.now(UTC)).total_seconds())


def _no_heartbeat(_: Any) -> None:
    """Take a heartbeat of an attempt that is over before it could be kept."""


def _tell(span: Span | None, outcome: Outcome) -> None:
    if span is not None and isinstance(outcome, Failed):
        mark_failed(span, outcome.failure)
