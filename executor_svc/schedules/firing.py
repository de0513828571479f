"""Carrying out firings: what is decided of them, done through the tasks' own verbs."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from executor_svc.engine.records import Failure
from executor_svc.schedules import rules
from executor_svc.schedules.metrics import ScheduleMetrics
from executor_svc.schedules.overlap import Decision, decide
from executor_svc.schedules.ports import Starter
from executor_svc.schedules.records import Held, Outcome, OverlapPolicy, Run, Schedule, with_runs
from executor_svc.schedules.timing import Due, Timing
from stepwire.call import call_context
from stepwire.errors import Reason, StepwireError
from stepwire.telemetry import tracer

PASSING: Final = frozenset(
    {
        Reason.DEADLINE_EXCEEDED,
        Reason.OVERLOADED,
        Reason.DEPENDENCY_UNAVAILABLE,
        Reason.GRAPH_TOO_NEW,
        Reason.INTERNAL,
    }
)
"""Reasons for which a task is refused that may pass: its firing is carried out later."""


class Firing:
    """Carries out the firings of schedules that are held.

    What it does can be repeated without another effect: a task's request_id is that of its
    firing. It records nothing itself.
    """

    def __init__(self, starter: Starter, metrics: ScheduleMetrics) -> None:
        self._starter = starter
        self._metrics = metrics

    async def regular(self, held: Held) -> Schedule:
        """Carry out what is due; return the schedule as it is to be recorded.

        Raises:
            StepwireError: a task was refused for a reason of PASSING.
        """
        old = held.schedule
        due = _due(old, held.now)
        decision = decide(
            old.config.overlap, due.nominals, running=held.running, buffered=old.buffered_at
        )
        started = await self._started(held, decision)
        runs = [*_missed(due, held.now), *_rest(old, decision, held.now), *started]
        self._metrics.fired(runs, late=_lateness(old, held.now))
        return replace(
            old,
            next_at=None if due.following is None else due.following.nominal_at,
            due_at=None if due.following is None else due.following.due_at,
            last_task_id=_last_task(started, old),
            buffered_at=decision.buffered,
            recent=with_runs(old.recent, sorted(runs, key=lambda run: run.nominal_at)),
        )

    async def triggered(self, held: Held, policy: OverlapPolicy) -> tuple[Schedule, Run]:
        """Carry out one firing now, which somebody asked for.

        Args:
            held: the schedule; its time is the nominal time of the firing.
            policy: what happens if the last task has not ended.

        Returns:
            The schedule to be recorded, and what came of the firing.

        Raises:
            StepwireError: what CreateTask says of the schedule's task.
        """
        old = held.schedule
        if policy is OverlapPolicy.BUFFER_ONE and old.paused:
            policy = OverlapPolicy.SKIP
        keeps = policy is not OverlapPolicy.BUFFER_ONE
        decision = decide(
            policy,
            [held.now],
            running=held.running,
            buffered=None if keeps else old.buffered_at,
        )
        started = await self._started(held, decision, manual=True)
        runs = [*_rest(old, decision, held.now, manual=True), *started]
        self._metrics.fired(runs)
        (run,) = (run for run in runs if run.nominal_at == held.now)
        new = replace(
            old,
            last_task_id=_last_task(started, old),
            buffered_at=old.buffered_at if keeps else decision.buffered,
            recent=with_runs(old.recent, runs),
        )
        return new, run

    async def _started(
        self, held: Held, decision: Decision, *, manual: bool = False
    ) -> Sequence[Run]:
        schedule = held.schedule
        if decision.cancels and schedule.last_task_id is not None:
            await self._starter.cancel(schedule.last_task_id, tenant_id=schedule.tenant_id)
        return await asyncio.gather(
            *(
                self._start(held, nominal_at, manual=manual and nominal_at == held.now)
                for nominal_at in decision.starts
            )
        )

    async def _start(self, held: Held, nominal_at: datetime, *, manual: bool) -> Run:
        schedule = held.schedule
        request = rules.tasks_request(
            schedule.config.task,
            name=schedule.name,
            nominal_at=nominal_at,
            request_id=rules.firing_id(schedule.schedule_id, nominal_at),
        )
        run = Run(nominal_at, Outcome.STARTED, held.now, manual=manual)
        with (
            # A task of the clock has a trace of its own.
            tracer().start_as_current_span(
                f"schedule {schedule.name}",
                context=None if manual else Context(),
                kind=SpanKind.PRODUCER,
            ),
            call_context(tenant_id=schedule.tenant_id),
        ):
            try:
                task_id = await self._starter.start(request, tenant_id=schedule.tenant_id)
            except StepwireError as error:
                if error.reason is Reason.REQUEST_ID_REUSED and "task_id" in error.metadata:
                    # Created before by one that died, or for a task that was another then.
                    return replace(run, task_id=UUID(error.metadata["task_id"]))
                if manual or error.reason in PASSING:
                    raise
                failure = Failure(error.reason, error.message, error.metadata)
                return replace(run, outcome=Outcome.FAILED, failure=failure)
        return replace(run, task_id=task_id)


def _due(schedule: Schedule, now: datetime) -> Due:
    """What is due of a schedule that may be held for its buffered firing alone."""
    if schedule.next_at is None:
        return Due((), None, None, None)
    # Of many, all but the newest would be cancelled at once.
    lone = schedule.config.overlap is OverlapPolicy.CANCEL_OTHER
    timing = Timing(schedule.schedule_id, schedule.config)
    return timing.due(schedule.next_at, now, limit=1 if lone else schedule.config.max_catch_up)


def _lateness(schedule: Schedule, now: datetime) -> float | None:
    """Seconds since the first firing was due; None when none is."""
    if schedule.due_at is None or schedule.due_at > now:
        return None
    return (now - schedule.due_at).total_seconds()


def _missed(due: Due, now: datetime) -> Sequence[Run]:
    if due.missed_from is None:
        return ()
    return [Run(due.missed_from, Outcome.MISSED, now, until_at=due.missed_until)]


def _rest(
    schedule: Schedule, decision: Decision, now: datetime, *, manual: bool = False
) -> Sequence[Run]:
    """What became of the firings that create no task now."""
    runs = [
        Run(nominal_at, Outcome.SKIPPED, now, manual=manual and nominal_at == now)
        for nominal_at in decision.skipped
    ]
    if decision.buffered is not None and decision.buffered != schedule.buffered_at:
        marked = manual and decision.buffered == now
        runs.append(Run(decision.buffered, Outcome.BUFFERED, now, manual=marked))
    return runs


def _last_task(started: Sequence[Run], schedule: Schedule) -> UUID | None:
    created = [run.task_id for run in started if run.task_id is not None]
    return created[-1] if created else schedule.last_task_id
