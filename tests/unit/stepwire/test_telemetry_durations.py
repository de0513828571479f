"""Histograms of durations, and how Prometheus is told of them."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from stepwire.telemetry import Durations, durations
from stepwire.telemetry.exposition import DurationsCollector, family_of


@pytest.fixture
def histogram():
    return Durations(
        "test.duration",
        description="How long it took.",
        attributes=("rpc.method", "error.type"),
        bounds=(0.1, 1.0),
    )


def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed(histogram):
    for seconds in (0.05, 0.1, 0.100001, 1.0, 7.0):
        histogram.record(seconds, "a", "")
    ((values, cell),) = histogram.cells()
    assert values == ("a", "")
    assert cell.counts == [2, 2, 1]
    assert cell.total_seconds == pytest.approx(8.250001)


def test_combinations_of_values_are_counted_apart(histogram):
    histogram.record(0.5, "a", "")
    histogram.record(0.5, "a", "INTERNAL")
    assert [values for values, _ in histogram.cells()] == [("a", ""), ("a", "INTERNAL")]


def test_a_value_for_each_attribute_is_wanted(histogram):
    with pytest.raises(AssertionError):
        histogram.record(0.5, "a")


def test_prometheus_reads_it_under_opentelemetrys_names(histogram):
    histogram.record(0.05, "a/b", "")
    histogram.record(2.0, "a/b", "")
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in family_of(histogram).samples
    }
    assert samples == {
        ("test_duration_seconds_bucket", "0.1"): 1,
        ("test_duration_seconds_bucket", "1.0"): 1,
        ("test_duration_seconds_bucket", "+Inf"): 2,
        ("test_duration_seconds_count", None): 2,
        ("test_duration_seconds_sum", None): 2.05,
    }
    assert family_of(histogram).samples[0].labels["rpc_method"] == "a/b"


class Only(Collector):
    """Gives one histogram."""

    def __init__(self, histogram):
        self.histogram = histogram

    def collect(self):
        yield family_of(self.histogram)


def test_the_newest_trace_of_a_bucket_is_told_to_those_who_read_openmetrics(histogram):
    first, second = "0" * 31 + "1", "0" * 31 + "2"
    histogram.record(0.05, "a", "")
    histogram.record(0.5, "a", "", trace_id=first)
    histogram.record(0.6, "a", "", trace_id=second)
    registry = CollectorRegistry()
    registry.register(Only(histogram))
    lines = openmetrics.generate_latest(registry).decode().splitlines()
    [line] = [line for line in lines if " # {" in line]
    assert 'le="1.0"' in line
    assert f' # {{trace_id="{second}"}} 0.6 ' in line
    assert " # {" not in generate_latest(registry).decode()


def test_one_name_is_one_histogram_and_all_are_served():
    options = {"description": "Test.", "attributes": ("a",), "bounds": (1.0,)}
    one = durations("test.shared", **options)
    assert durations("test.shared", **options) is one
    one.record(0.5, "x")
    registry = CollectorRegistry()
    registry.register(DurationsCollector())
    assert 'test_shared_seconds_bucket{a="x",le="1.0"} 1.0' in generate_latest(registry).decode()
