"""What scrapes are told of searches."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Sum

from vector_svc import metrics as module
from vector_svc.metrics import PLAN, SEARCHES, VectorMetrics
from vector_svc.search.records import Plan


def test_searches_are_counted_by_the_way_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(module, "meter", lambda: provider.get_meter("test"))
    metrics = VectorMetrics()
    for plan in (Plan.INDEX, Plan.EXACT, Plan.INDEX):
        metrics.searched(plan)
    data = reader.get_metrics_data()
    assert data is not None
    [searches] = [
        metric.data
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == SEARCHES
    ]
    assert isinstance(searches, Sum)
    assert searches.is_monotonic
    counted = {(point.attributes or {})[PLAN]: point.value for point in searches.data_points}
    assert counted == dict.fromkeys(Plan, 0) | {"index": 2, "exact": 1}
    provider.shutdown()
