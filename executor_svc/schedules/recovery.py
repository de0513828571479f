"""What became of firings whose executor died before it had recorded them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from executor_svc.schedules.records import (
    Held,
    Outcome,
    OverlapPolicy,
    Run,
    Schedule,
    with_runs,
)
from executor_svc.schedules.timing import Timing


def may_have_begun(held: Held) -> bool:
    """Tell whether a task may be there that the schedule must know of before it fires again.

    Where tasks do not exclude each other, each firing finds its own task by itself.
    """
    return held.lost and held.schedule.config.overlap is not OverlapPolicy.ALLOW


def recovered(held: Held, tasks: Mapping[datetime, UUID]) -> Schedule:
    """Return a schedule with the firings that have their tasks already, by nominal time."""
    old = held.schedule
    new = replace(
        old,
        last_task_id=tasks[max(tasks)],
        buffered_at=None if old.buffered_at in tasks else old.buffered_at,
        recent=with_runs(old.recent, _runs(held, tasks)),
    )
    regular = _regular(old, tasks)
    if not regular:
        return new
    following = Timing(old.schedule_id, old.config).first(regular[-1])
    if following is None:
        return replace(new, next_at=None, due_at=None)
    return replace(new, next_at=following.nominal_at, due_at=following.due_at)


def _regular(schedule: Schedule, tasks: Mapping[datetime, UUID]) -> Sequence[datetime]:
    """Return the firings by the expression; a trigger is on no whole second."""
    first = schedule.next_at
    return [each for each in sorted(tasks) if first and each >= first and not each.microsecond]


def _runs(held: Held, tasks: Mapping[datetime, UUID]) -> Sequence[Run]:
    schedule = held.schedule
    known = {run.task_id for run in schedule.recent}
    runs = [
        Run(nominal_at, Outcome.STARTED, held.now, task_id=task_id)
        for nominal_at, task_id in sorted(tasks.items())
        if task_id not in known
    ]
    regular = _regular(schedule, tasks)
    if regular and schedule.next_at is not None and schedule.next_at < regular[0]:
        missed = Run(schedule.next_at, Outcome.MISSED, held.now, until_at=regular[0])
        return [missed, *runs]
    return runs
