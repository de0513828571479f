"""Instruments of the account of usage."""

from typing import Final

from opentelemetry.metrics import Meter

LOST: Final = "stepwire.router.usage.lost"


class UsageMetrics:
    """Counts what could not be written down."""

    def __init__(self, meter: Meter) -> None:
        self._lost = meter.create_counter(
            LOST, unit="{try}", description="Tries whose usage could not be written down."
        )
        self._lost.add(0)

    def lost(self, count: int) -> None:
        """Counts tries."""
        self._lost.add(count)
