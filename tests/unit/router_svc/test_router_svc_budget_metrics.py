"""What scrapes are told of budgets."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from router_svc.budgets.metrics import BudgetMetrics
from router_svc.budgets.records import Budget, Standing


def test_budgets_show_what_they_have_left_of_what_in_dollars() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    budget = cast(Budget, SimpleNamespace(tenant_id="acme", name="all"))
    standing = Standing(limit=5_000_000, left=1_250_000, ends_at=datetime.now(UTC))
    BudgetMetrics(provider.get_meter("test"), lambda: [(budget, standing)])
    data = reader.get_metrics_data()
    assert data is not None
    shown: dict[str, Any] = {
        metric.name: (dict(point.attributes or {}), point.value)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    whose = {"stepwire.tenant_id": "acme", "stepwire.router.budget": "all"}
    assert shown == {
        "stepwire.router.budget.left": (whose, 1.25),
        "stepwire.router.budget.limit": (whose, 5.0),
    }
    provider.shutdown()
