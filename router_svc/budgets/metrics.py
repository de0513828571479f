"""Instruments of budgets."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from router_svc.budgets.records import Alarm, Budget, Standing
from router_svc.catalogue.prices import MICRO_USD_PER_USD
from router_svc.generate.records import UsageEntry
from router_svc.metrics import REQUEST_MODEL
from stepwire.telemetry.names import TENANT_ID

_logger = logging.getLogger(__name__)

LEFT: Final = "stepwire.router.budget.left"
LIMIT: Final = "stepwire.router.budget.limit"
ALARMS: Final = "stepwire.router.budget.alarms"
REFUSALS: Final = "stepwire.router.budget.refusals"
EXCEEDED: Final = "stepwire.router.budget.exceeded"
LOST: Final = "stepwire.router.budget.lost"
BUDGET: Final = "stepwire.router.budget"

PERCENT: Final = "stepwire.router.budget.percent"

Standings = Callable[[], Sequence[tuple[Budget, Standing]]]


class BudgetMetrics:
    """Tells what budgets have left, what they refused, and when they ring.

    Args:
        meter: Makes the instruments.
        standings: Returns how budgets without a split stood when they were last seen here.
    """

    def __init__(self, meter: Meter, standings: Standings) -> None:
        self._standings = standings
        self._alarms = meter.create_counter(
            ALARMS, unit="{alarm}", description="Shares of budgets that were reached."
        )
        self._refusals = meter.create_counter(
            REFUSALS, unit="{try}", description="Tries that found too little left in a budget."
        )
        self._exceeded = meter.create_counter(
            EXCEEDED, unit="{try}", description="Tries that cost more than was held for them."
        )
        self._lost = meter.create_counter(
            LOST,
            unit="{try}",
            description="Tries charged at their most, since their instance died.",
        )
        meter.create_observable_gauge(
            LEFT,
            callbacks=[self._left],
            unit="{USD}",
            description="What budgets without a split had left when they were last seen.",
        )
        meter.create_observable_gauge(
            LIMIT,
            callbacks=[self._limit],
            unit="{USD}",
            description="What budgets without a split may spend, as of when they were last seen.",
        )

    def refused(self, budget: Budget) -> None:
        """Counts a try that a budget kept from its model."""
        self._refusals.add(1, _attributes(budget))

    def exceeded(self, entry: UsageEntry, *, held_micro_usd: int) -> None:
        """Counts and tells that a provider used more than a call could, as far as was known."""
        self._exceeded.add(1, {REQUEST_MODEL: entry.model.name})
        _logger.warning(
            "a call cost more than was held for it",
            extra={
                "model": entry.model.name,
                "cost_micro_usd": entry.cost_micro_usd,
                "held_micro_usd": held_micro_usd,
                "input_tokens": entry.usage.input_tokens,
                "output_tokens": entry.usage.output_tokens,
            },
        )

    def lost(self, count: int) -> None:
        """Counts tries that nobody settled."""
        self._lost.add(count)
        _logger.warning(
            "calls of an instance that has died were charged at their most", extra={"calls": count}
        )

    def alarmed(self, alarm: Alarm, budget: Budget | None) -> None:
        """Counts and tells that a share of a budget was reached."""
        if budget is not None:
            self._alarms.add(1, {**_attributes(budget), PERCENT: alarm.percent})
        _logger.warning(
            "a budget has reached a share of its limit",
            extra={
                "tenant_id": "" if budget is None else budget.tenant_id,
                "budget": str(alarm.budget_id) if budget is None else budget.name,
                "key": alarm.key,
                "percent": alarm.percent,
                "spent_micro_usd": alarm.spent_micro_usd,
                "limit_micro_usd": alarm.limit_micro_usd,
            },
        )

    def _left(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        for budget, standing in self._standings():
            yield Observation(standing.left / MICRO_USD_PER_USD, _attributes(budget))

    def _limit(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        for budget, standing in self._standings():
            yield Observation(standing.limit / MICRO_USD_PER_USD, _attributes(budget))


def _attributes(budget: Budget) -> dict[str, str]:
    return {TENANT_ID: budget.tenant_id, BUDGET: budget.name}
