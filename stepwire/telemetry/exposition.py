"""Serving the histograms of `stepwire.telemetry.durations` to Prometheus."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from stepwire.telemetry.durations import Durations, Example, all_durations


class DurationsCollector(Collector):
    """Gives all histograms whenever the process's metrics are scraped."""

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Gives each histogram as a family of metrics."""
        for histogram in all_durations():
            yield family_of(histogram)


def family_of(histogram: Durations) -> HistogramMetricFamily:
    """Returns a histogram in Prometheus's form, named as OpenTelemetry's exporter names its own."""
    family = HistogramMetricFamily(
        f"{_name(histogram.name)}_seconds",
        histogram.description,
        labels=[_name(attribute) for attribute in histogram.attributes],
    )
    limits = [*map(str, histogram.bounds), "+Inf"]
    for values, cell in histogram.cells():
        # Prometheus's buckets hold all that is smaller, too.
        examples = [cell.examples.get(place) for place in range(len(limits))]
        buckets = [
            (limit, float(count)) if example is None else (limit, float(count), _told(example))
            for limit, count, example in zip(limits, accumulate(cell.counts), examples, strict=True)
        ]
        family.add_metric(values, buckets=buckets, sum_value=cell.total_seconds)
    return family


def _told(example: Example) -> Exemplar:
    return Exemplar({"trace_id": example.trace_id}, example.seconds, example.at)


def _name(name: str) -> str:
    return name.replace(".", "_")
