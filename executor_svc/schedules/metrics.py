"""Instruments of schedules."""

from collections.abc import Sequence

from executor_svc.schedules.records import Run
from stepwire.telemetry import meter, names


class ScheduleMetrics:
    """What the firing loop counts."""

    def __init__(self) -> None:
        self._runs = meter().create_counter(
            names.SCHEDULE_RUNS, description="Firings of schedules, by what became of them."
        )
        self._delay = meter().create_histogram(
            names.SCHEDULE_DELAY,
            unit="s",
            description="Time from when a firing is due to when it is carried out.",
            explicit_bucket_boundaries_advisory=names.STEP_DURATION_BUCKETS,
        )

    def fired(self, runs: Sequence[Run], *, late: float | None = None) -> None:
        """Count firings; `late` is by how many seconds the first of them was."""
        for run in runs:
            self._runs.add(1, {names.RESULT: run.outcome.lower()})
        if late is not None:
            self._delay.record(late)
