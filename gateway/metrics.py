"""The companion's instruments."""

from typing import Final

from opentelemetry.metrics import Meter

from gateway.ports import Status

HEALTH_ANSWERS: Final = "stepwire.gateway.health_answers"
SERVICE: Final = "stepwire.gateway.service"
STATUS: Final = "stepwire.gateway.status"


class CompanionMetrics:
    """Counts what the companion tells about the services' health."""

    def __init__(self, meter: Meter) -> None:
        self._answers = meter.create_counter(
            HEALTH_ANSWERS,
            unit="{answer}",
            description="Answers about a service's health, by service and status.",
        )

    def told(self, service: str, status: Status) -> None:
        """Counts one answer; an empty `service` stands for the whole mesh."""
        self._answers.add(1, {SERVICE: service, STATUS: status.name})
