"""Instruments of rates."""

from typing import Final

from opentelemetry.metrics import Meter

from router_svc.metrics import REQUEST_MODEL

REFUSED: Final = "stepwire.router.limits.refused"
UNIT: Final = "stepwire.router.limit"


class LimitMetrics:
    """Counts what rates have refused."""

    def __init__(self, meter: Meter) -> None:
        self._refused = meter.create_counter(
            REFUSED,
            unit="{try}",
            description="Tries that a limit of the catalogue kept from their model.",
        )

    def refused(self, model: str, unit: str) -> None:
        """Counts a try that was kept back; `unit` is `requests` or `tokens`."""
        self._refused.add(1, {REQUEST_MODEL: model, UNIT: unit})
