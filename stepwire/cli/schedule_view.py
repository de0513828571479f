"""Prints schedules for people."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from stepwire.api.executor.v1.schedule_service_pb2 import (
    OverlapPolicy,
    Schedule,
    ScheduleRun,
    ScheduleRunOutcome,
)
from stepwire.cli.output import ID_COLUMNS, console, styled, tell

_SHORT = len("2026-11-21 06:30:00")
_OUTCOME_STYLES = {"STARTED": "green", "FAILED": "bold red", "MISSED": "yellow"}


def print_schedules(schedules: Sequence[Schedule]) -> None:
    """Prints a table of schedules."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("SCHEDULE", "CRON", "TIME ZONE", "NEXT", "LAST TASK"):
        table.add_column(column, no_wrap=True)
    for schedule in schedules:
        table.add_row(
            schedule.name,
            schedule.config.cron,
            schedule.config.time_zone,
            _next(schedule),
            schedule.last_task_id,
        )
    console().print(table)


def print_schedule(schedule: Schedule) -> None:
    """Prints a schedule, its next firings and what became of the last ones."""
    screen, config = console(), schedule.config
    policy = OverlapPolicy.Name(config.overlap_policy).removeprefix("OVERLAP_POLICY_")
    screen.print(
        Text.assemble(
            f"{schedule.name}  {config.cron}  {config.time_zone}  {policy}  ", _state(schedule)
        )
    )
    if schedule.note:
        tell(screen, schedule.note)
    for time in schedule.next_times:
        screen.print(f"  next {_moment(time, config.time_zone)}")
    if not schedule.recent_runs:
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("FIRING", "OUTCOME", "TASK", "WHY"):
        width = ID_COLUMNS if column == "TASK" else None
        table.add_column(column, no_wrap=column != "WHY", min_width=width)
    for run in schedule.recent_runs:
        word = _outcome(run)
        table.add_row(
            # Without the offset, so that the table is not too wide for a terminal.
            _moment(run.nominal_time, config.time_zone)[:_SHORT],
            Text(word, style=_OUTCOME_STYLES.get(word, "")),
            run.task_id,
            _why(run, config.time_zone),
        )
    screen.print(table)


def run_words(run: ScheduleRun) -> str:
    """Returns what came of a firing in a line."""
    return f"{_outcome(run)} {run.task_id}".rstrip()


def _next(schedule: Schedule) -> Text:
    if schedule.next_times:
        return Text(_moment(schedule.next_times[0], schedule.config.time_zone))
    return _state(schedule)


def _state(schedule: Schedule) -> Text:
    if schedule.paused:
        return styled("PAUSED")
    return Text("" if schedule.next_times else "over", style="dim")


def _outcome(run: ScheduleRun) -> str:
    return ScheduleRunOutcome.Name(run.outcome).removeprefix("SCHEDULE_RUN_OUTCOME_")


def _why(run: ScheduleRun, zone: str) -> str:
    words = ["triggered"] if run.triggered else []
    if run.HasField("until_time"):
        words.append(f"and all before {_moment(run.until_time, zone)}")
    if run.HasField("failure"):
        words.append(f"{run.failure.reason}: {run.failure.message}")
    return ", ".join(words)


def _moment(time: Timestamp, zone: str) -> str:
    """Returns a time as the schedule's clock shows it."""
    moment = time.ToDatetime(tzinfo=UTC)
    # UTC where this machine does not know the zone.
    with suppress(ZoneInfoNotFoundError, ValueError):
        moment = moment.astimezone(ZoneInfo(zone))
    return moment.isoformat(sep=" ", timespec="seconds")
