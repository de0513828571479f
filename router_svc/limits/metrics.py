"""Instruments of limits."""

from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from router_svc.metrics import REQUEST_MODEL

REFUSED: Final = "stepwire.router.limits.refused"
UNIT: Final = "stepwire.router.limit"
SLOTS_HELD: Final = "stepwire.router.slots.held"
SLOTS_USED: Final = "stepwire.router.slots.used"

SlotStanding = Callable[[], Iterable[tuple[str, int, int]]]
"""Returns models, how many of their slots are held here, and how many are in use."""


class LimitMetrics:
    """Counts what limits have refused."""

    def __init__(self, meter: Meter) -> None:
        self._refused = meter.create_counter(
            REFUSED,
            unit="{try}",
            description="Tries that a limit of the catalogue kept from their model.",
        )

    def refused(self, model: str, unit: str) -> None:
        """Counts a try that was kept back; `unit` is `requests`, `tokens` or `concurrency`."""
        self._refused.add(1, {REQUEST_MODEL: model, UNIT: unit})


class SlotMetrics:
    """Shows the slots that this process holds.

    Args:
        meter: Makes the instruments.
        standing: How they stand.
    """

    def __init__(self, meter: Meter, standing: SlotStanding) -> None:
        self._standing = standing
        meter.create_observable_gauge(
            SLOTS_HELD,
            callbacks=[self._held],
            unit="{call}",
            description="Calls of a model that may be under way from here.",
        )
        meter.create_observable_gauge(
            SLOTS_USED,
            callbacks=[self._used],
            unit="{call}",
            description="Calls of a model with a concurrency that are under way from here.",
        )

    def _held(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        for model, held, _ in self._standing():
            yield Observation(held, {REQUEST_MODEL: model})

    def _used(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        for model, _, used in self._standing():
            yield Observation(used, {REQUEST_MODEL: model})
