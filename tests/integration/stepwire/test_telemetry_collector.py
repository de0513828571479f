"""The stack's trace collector: spans in by OTLP, out of files and to another endpoint."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from stepwire.stack.probes import grpc_serving
from stepwire.telemetry.collector import Collector, CollectorSettings
from stepwire.telemetry.spans import Span, read_linked, read_trace, span_files
from stepwire.testing.poll import eventually


def settings(folder: Path, **more: object) -> CollectorSettings:
    fields = {"port": 0, "drain_seconds": 2, "folder": folder, **more}
    return CollectorSettings.model_validate(fields)


@contextmanager
def tracer(port: int, service: str) -> Iterator[trace.Tracer]:
    """Gives a tracer of the real SDK that exports each span when it ends."""
    provider = TracerProvider(resource=Resource({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}", insecure=True)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test")
    provider.shutdown()


def record(port: int) -> tuple[str, str]:
    """Exports two spans of one trace and one of a linked trace; returns both trace ids."""
    with tracer(port, "executor") as spans:
        with spans.start_as_current_span("task") as root:
            context = root.get_span_context()
            with spans.start_as_current_span(
                "step", kind=trace.SpanKind.CLIENT, attributes={"n": 3, "names": ["a", "b"]}
            ) as child:
                child.set_status(trace.StatusCode.ERROR, "no model")
        other = spans.start_span("batch", links=[trace.Link(context)])
        other.end()
    return f"{context.trace_id:032x}", f"{other.get_span_context().trace_id:032x}"


async def in_thread(port: int) -> tuple[str, str]:
    return await asyncio.to_thread(record, port)


async def test_a_trace_is_read_back_as_it_was_recorded(tmp_path: Path) -> None:
    async with Collector(settings(tmp_path)) as collector:
        assert await grpc_serving(collector.port)
        trace_id, other_id = await in_thread(collector.port)
        task, step = read_trace(tmp_path, trace_id.upper())
    assert (task.name, task.parent_id, task.service) == ("task", "", "executor")
    assert (step.name, step.parent_id, step.kind) == ("step", task.span_id, "CLIENT")
    assert (step.status, step.message) == ("ERROR", "no model")
    assert step.attributes == {"n": 3, "names": ["a", "b"]}
    assert task.start <= step.start <= step.end <= task.end
    assert step.seconds == (step.end - step.start) / 1e9
    assert [span.trace_id for span in read_linked(tmp_path, trace_id)] == [other_id]
    assert read_trace(tmp_path, "0" * 32) == []


async def test_spans_are_forwarded(tmp_path: Path) -> None:
    async with Collector(settings(tmp_path / "second")) as second:
        endpoint = f"http://127.0.0.1:{second.port}"
        async with Collector(settings(tmp_path / "first", forward_endpoint=endpoint)) as first:
            trace_id, _ = await in_thread(first.port)
            spans = await eventually(lambda: both(tmp_path / "second", trace_id))
    assert spans == read_trace(tmp_path / "first", trace_id)


def both(folder: Path, trace_id: str) -> list[Span]:
    spans = read_trace(folder, trace_id)
    return spans if len(spans) == 2 else []


async def test_an_endpoint_that_is_gone_hinders_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = settings(tmp_path, forward_endpoint="127.0.0.1:1")
    async with Collector(gone) as collector:
        trace_id, _ = await in_thread(collector.port)
        assert len(read_trace(tmp_path, trace_id)) == 2
        await eventually(lambda: "spans not forwarded to 127.0.0.1:1" in caplog.text)


async def test_old_spans_make_room_for_new_ones(tmp_path: Path) -> None:
    small = settings(tmp_path, max_file_bytes=1024, max_total_bytes=4096)
    async with Collector(small) as collector:
        traces = [(await in_thread(collector.port))[0] for _ in range(12)]
    assert sum(path.stat().st_size for path in span_files(tmp_path)) <= 4096
    assert read_trace(tmp_path, traces[0]) == []
    assert len(read_trace(tmp_path, traces[-1])) == 2


async def test_a_restarted_collector_goes_on(tmp_path: Path) -> None:
    traces = []
    for _ in range(2):
        async with Collector(settings(tmp_path)) as collector:
            traces.append((await in_thread(collector.port))[0])
    assert len(span_files(tmp_path)) == 1
    assert [len(read_trace(tmp_path, trace_id)) for trace_id in traces] == [2, 2]


def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "spans-00000001.jsonl").write_text('{"trace_id": "' + "a" * 32)
    assert read_trace(tmp_path, "a" * 32) == []
