"""What a server measures and logs of its calls."""

import asyncio
import logging

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stepwire.errors import field_invalid
from stepwire.rpc.interceptors import call_metrics
from stepwire.testing.poll import eventually
from tests.unit.stepwire.durations_read import counts, histograms
from tests.unit.stepwire.shapes_service import (
    Gate,
    call,
    failure,
    serving,
)


async def test_calls_are_measured_by_method_and_code(monkeypatch):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(call_metrics, "meter", lambda: provider.get_meter("test"))
    measured = histograms(monkeypatch, call_metrics)
    gate = Gate()

    async def work(request):
        if request == b"bad":
            raise field_invalid("a", "b")
        return await gate(request)

    async with serving(work) as channel:
        waiting = asyncio.create_task(call(channel, "unary_unary"))
        await eventually(lambda: gate.inside == 1)
        during = points(reader)
        await failure(channel, "unary_stream", b"bad")
        gate.open.set()
        await waiting
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        await eventually(lambda: active(points(reader)) == {False: 0, True: 0})
    provider.shutdown()
    assert active(during) == {False: 1, True: 0}
    assert counts(
        measured["rpc.server.call.duration"], "rpc.method", "rpc.response.status_code"
    ) == {
        ("test.Shapes/unary_unary", "OK"): 1,
        ("test.Shapes/unary_stream", "INVALID_ARGUMENT"): 1,
    }


async def test_faults_and_slow_calls_name_their_trace(monkeypatch):
    measured = histograms(monkeypatch, call_metrics)
    monkeypatch.setattr(call_metrics, "current_trace_id", lambda: "a" * 32)

    async def work(request):
        if request == b"bad":
            raise ValueError
        return request

    async with serving(work) as channel:
        monkeypatch.setattr(call_metrics, "SLOW_SECONDS", 60.0)
        await call(channel, "unary_unary")
        await failure(channel, "unary_unary", b"bad")
        monkeypatch.setattr(call_metrics, "SLOW_SECONDS", 0.0)
        await call(channel, "unary_stream")
    cells = measured["rpc.server.call.duration"].cells()
    assert {values[1:3]: bool(cell.examples) for values, cell in cells} == {
        ("test.Shapes/unary_unary", "OK"): False,
        ("test.Shapes/unary_unary", "INTERNAL"): True,
        ("test.Shapes/unary_stream", "OK"): True,
    }


def points(reader):
    data = reader.get_metrics_data()
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def active(seen):
    return {
        point.attributes["stepwire.rpc.streams_responses"]: point.value
        for point in seen["stepwire.rpc.server.active_calls"]
    }


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
async def test_only_failures_of_the_server_are_logged_at_info(level, caplog):
    async def work(request):
        if request == b"bad":
            raise field_invalid("a", "b")
        if request == b"broken":
            raise ValueError
        return request

    caplog.set_level(level, logger="stepwire.rpc.access")
    async with serving(work) as channel:
        await call(channel, "unary_unary")
        await failure(channel, "unary_unary", b"bad")
        await failure(channel, "unary_unary", b"broken")
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    lines = [
        (record.levelname, record.code, getattr(record, "reason", None))
        for record in caplog.records
        if record.name == "stepwire.rpc.access"
    ]
    expected = [
        ("DEBUG", "OK", None),
        ("DEBUG", "INVALID_ARGUMENT", "FIELD_INVALID"),
        ("INFO", "INTERNAL", "INTERNAL"),
        ("DEBUG", "OK", None),
    ]
    assert lines == [line for line in expected if logging.getLevelName(line[0]) >= level]
