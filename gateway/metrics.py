"""The companion's instruments."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from gateway.ports import Status
from stepwire.errors import Reason
from stepwire.telemetry import names

HEALTH_ANSWERS: Final = "stepwire.gateway.health_answers"
KEY_CHECKS: Final = "stepwire.gateway.key_checks"
SERVICE: Final = "stepwire.gateway.service"
STATUS: Final = "stepwire.gateway.status"

_ALLOWED: Final = ""


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


class CheckMetrics:
    """Counts what becomes of calls; observed when scraped, so that a call pays for an addition."""

    def __init__(self, meter: Meter) -> None:
        self._counts: Counter[str] = Counter()
        meter.create_observable_counter(
            KEY_CHECKS,
            callbacks=[self._observe],
            unit="{call}",
            description="Calls whose key was checked, by the reason for which they were refused; "
            "an empty one for those that passed.",
        )

    def allowed(self) -> None:
        """Counts a call that has passed."""
        self._counts[_ALLOWED] += 1

    def refused(self, reason: Reason) -> None:
        """Counts a call that was refused."""
        self._counts[reason.value] += 1

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        for reason, count in list(self._counts.items()):
            yield Observation(count, {names.REASON: reason})
