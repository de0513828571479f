from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData

from model_svc.metrics import ModelMetrics
from model_svc.running.statistics import Duration, Statistics, Timings


def test_a_batch_is_measured_under_its_model_version_and_device() -> None:
    reader = InMemoryMetricReader()
    metrics = ModelMetrics(
        MeterProvider([reader]).get_meter("test"),
        model="m",
        version="2",
        reads_text=True,
    )
    for texts in (2, 4):
        metrics.batch_ran(
            items=texts,
            size=10 * texts,
            padded_size=12 * texts,
            full=96,
            wait_seconds=0.5,
            seconds=2,
            device="cpu",
            failed=texts == 4,
        )
    metrics.cache_hit(0.001)
    data = reader.get_metrics_data()
    assert isinstance(data, MetricsData)
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    sums = {}
    for metric in scope.metrics:
        (point,) = metric.data.data_points
        attributes = dict(point.attributes or {})
        assert attributes.pop("stepwire.model") == "m"
        assert attributes.pop("stepwire.model.version") == "2"
        assert attributes in (
            {"stepwire.model.device": "cpu"},
            {"stepwire.model.cache.outcome": "hit"},
        )
        sums[metric.name] = point.value if hasattr(point, "value") else point.sum
    assert sums == {
        "stepwire.model.batch.items": 6,
        "stepwire.model.batch.fill": 0.75,
        "stepwire.model.batch.tokens": 60,
        "stepwire.model.batch.padded_tokens": 72,
        "stepwire.model.batch.duration": 4,
        "stepwire.model.batch.failures": 1,
        "stepwire.model.queue.duration": 1,
        "stepwire.model.cache.calls": 1,
    }
    assert metrics.statistics.snapshot().inference_count == 6
    assert metrics.statistics.snapshot().execution_count == 2


def test_statistics_tell_calls_batches_and_the_cache_apart() -> None:
    statistics = Statistics(clock=lambda: 12.5)
    statistics.batch_ran(3, 0.25)
    statistics.batch_ran(3, 0.25)
    statistics.call_answered(Timings(queue=1, tokenize=0.5, compute=2))
    statistics.cache_missed(0.5)
    statistics.cache_hit(0.125)
    snapshot = statistics.snapshot()
    assert snapshot.inference_count == 6
    assert snapshot.execution_count == 2
    assert snapshot.last_inference_ms == 12_500
    assert snapshot.success == Duration(2, 3_625_000_000)
    assert snapshot.queue == Duration(1, 1_000_000_000)
    assert snapshot.compute_input == Duration(1, 500_000_000)
    assert snapshot.compute_infer == Duration(1, 2_000_000_000)
    assert snapshot.cache_miss == Duration(1, 500_000_000)
    assert snapshot.cache_hit == Duration(1, 125_000_000)
    assert snapshot.batches == {3: (Duration(2), Duration(2, 500_000_000), Duration(2))}
    statistics.reset()
    assert statistics.snapshot() == Statistics().snapshot()
