from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData

from model_svc.metrics import ModelMetrics


def test_a_batch_is_measured_under_its_model() -> None:
    reader = InMemoryMetricReader()
    metrics = ModelMetrics(MeterProvider([reader]).get_meter("test"), "m")
    for texts in (2, 4):
        metrics.batch_ran(
            texts=texts, tokens=10 * texts, padded_tokens=12 * texts, wait_seconds=0.5, seconds=2
        )
    data = reader.get_metrics_data()
    assert isinstance(data, MetricsData)
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    sums = {}
    for metric in scope.metrics:
        (point,) = metric.data.data_points
        assert point.attributes == {"stepwire.model": "m"}
        sums[metric.name] = point.value if hasattr(point, "value") else point.sum
    assert sums == {
        "stepwire.model.batch.texts": 6,
        "stepwire.model.batch.tokens": 60,
        "stepwire.model.batch.padded_tokens": 72,
        "stepwire.model.batch.duration": 4,
        "stepwire.model.queue.duration": 1,
    }
