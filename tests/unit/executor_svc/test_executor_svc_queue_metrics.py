"""What scrapes are told of the queues."""

from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from executor_svc import metrics as module
from executor_svc.metrics import QueueMetrics
from executor_svc.queues.queues import QueueView
from executor_svc.queues.signals import Pool, QueueSignals


@pytest.fixture
def reader(monkeypatch):
    opened = InMemoryMetricReader()
    provider = MeterProvider([opened])
    monkeypatch.setattr(module, "meter", lambda: provider.get_meter("test"))
    yield opened
    provider.shutdown()


def signals(queue, **fields):
    return QueueSignals(
        **{
            "queue": queue,
            "ready": 1,
            "running": 2,
            "waiting": 3,
            "oldest_ready_seconds": 4.5,
            "wait_seconds": 5.5,
            "arrival_rate": 6.5,
            "completion_rate": 7.5,
            "failure_rate": 8.5,
            "service_seconds": 9.5,
            "pool": Pool(workers=10, slots=11, busy=12),
            "slots_wanted": 13.5,
            "workers_wanted": 14,
            **fields,
        }
    )


def values(reader):
    data = reader.get_metrics_data()
    return (
        {}
        if data is None
        else {
            (metric.name, point.attributes["stepwire.queue"]): point.value
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }
    )


def test_every_signal_is_a_gauge_by_queue(reader):
    metrics = QueueMetrics()
    assert values(reader) == {}
    metrics.update([QueueView(signals("a")), QueueView(signals("b"), "", datetime.now(UTC))])
    found = values(reader)
    prefix = "stepwire.queue."
    assert {
        name.removeprefix(prefix): value for (name, queue), value in found.items() if queue == "a"
    } == {
        "ready": 1,
        "running": 2,
        "waiting": 3,
        "oldest_ready": 4.5,
        "time_to_start": 5.5,
        "arrival_rate": 6.5,
        "completion_rate": 7.5,
        "failure_rate": 8.5,
        "service_time": 9.5,
        "workers": 10,
        "slots": 11,
        "slots_used": 12,
        "workers_wanted": 14,
        "paused": 0,
    }
    assert found[f"{prefix}paused", "b"] == 1


def test_what_is_not_known_is_left_out(reader):
    metrics = QueueMetrics()
    unknown = signals("a", oldest_ready_seconds=None, wait_seconds=None, service_seconds=None)
    metrics.update([QueueView(unknown)])
    found = {name.removeprefix("stepwire.queue.") for name, _ in values(reader)}
    assert found.isdisjoint({"time_to_start", "service_time"})
    assert values(reader)["stepwire.queue.oldest_ready", "a"] == 0
    metrics.update([])
    assert values(reader) == {}
