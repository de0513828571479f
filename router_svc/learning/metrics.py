"""Instruments of learning."""

from typing import Final

from opentelemetry.metrics import Meter

from router_svc.learning.records import Version
from router_svc.metrics import OUTCOME

FORGOTTEN: Final = "stepwire.router.decisions.forgotten"
OUTCOMES: Final = "stepwire.router.outcomes"
TRAININGS: Final = "stepwire.router.trainings"


class LearningMetrics:
    """Counts what is reported, trained, and could not be remembered."""

    def __init__(self, meter: Meter) -> None:
        self._forgotten = meter.create_counter(
            FORGOTTEN, unit="{decision}", description="Decisions that could not be kept."
        )
        self._outcomes = meter.create_counter(
            OUTCOMES, unit="{outcome}", description="Outcomes reported."
        )
        self._trainings = meter.create_counter(
            TRAININGS, unit="{version}", description="Versions trained, by what became of them."
        )

    def forgotten(self, count: int) -> None:
        """Counts decisions that could not be kept."""
        self._forgotten.add(count)

    def reported(self) -> None:
        """Counts an outcome."""
        self._outcomes.add(1)

    def trained(self, version: Version) -> None:
        """Counts a version that was trained."""
        self._trainings.add(1, {OUTCOME: version.state.value.lower()})
