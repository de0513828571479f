import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from stepwire.call import call_context
from stepwire.telemetry import (
    context_from_traceparent,
    inject_traceparent,
    is_sampled,
    link_to,
    meter,
    parse_traceparent,
    record_span,
    records_spans,
    sampled_trace_id,
    span_within,
    trace_id_of,
    traceparent_of,
    tracer,
)
from stepwire.telemetry import trace as telemetry_trace
from stepwire.telemetry.tracer import QuietTracer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"


@pytest.fixture
def exporter(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    quiet = QuietTracer(provider.get_tracer("test"))
    monkeypatch.setattr(telemetry_trace, "tracer", lambda: quiet)
    yield exporter
    provider.shutdown()


def test_spans_are_recorded_once_they_are_turned_on(monkeypatch):
    assert not records_spans()
    monkeypatch.setattr(
        trace, "get_tracer_provider", lambda: TracerProvider(shutdown_on_exit=False)
    )
    assert records_spans()


def test_a_traceparent_goes_there_and_back():
    context = parse_traceparent(TRACEPARENT)
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert context.is_remote
    assert context.trace_flags.sampled
    assert traceparent_of(context) == TRACEPARENT


def test_an_unsampled_trace_stays_unsampled():
    assert not parse_traceparent(TRACEPARENT[:-2] + "00").trace_flags.sampled


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "nonsense",
        TRACEPARENT + "-extra",  # not in version 00
        f"ff-{TRACE_ID}-{SPAN_ID}-01",  # a version that is forbidden
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        TRACEPARENT.upper(),
        f"00-{TRACE_ID}-{SPAN_ID}-1",
    ],
)
def test_a_malformed_traceparent_begins_a_new_trace(malformed):
    assert parse_traceparent(malformed) is None
    assert trace_id_of(malformed) == ""
    assert context_from_traceparent(malformed) == Context()
    assert link_to(malformed) == []


def test_a_later_version_may_carry_more():
    assert parse_traceparent(f"01-{TRACE_ID}-{SPAN_ID}-01-more") is not None


def test_there_is_no_traceparent_outside_a_span():
    assert inject_traceparent() == ""


def test_the_current_span_is_injected():
    context = context_from_traceparent(TRACEPARENT)
    assert traceparent_of(trace.get_current_span(context).get_span_context()) == TRACEPARENT


def test_without_setup_spans_and_instruments_do_nothing():
    with tracer().start_as_current_span("name") as span:
        assert not span.is_recording()
        assert inject_traceparent() == ""
    meter().create_counter("test.unused").add(1)


def test_a_finished_span_is_recorded_under_its_parent(exporter):
    span = record_span(
        "step",
        parent=TRACEPARENT,
        start_seconds=100.0,
        end_seconds=100.25,
        attributes={"a": 1},
        error="broken",
    )
    (recorded,) = exporter.get_finished_spans()
    assert recorded.context == span.get_span_context()
    assert f"{recorded.context.trace_id:032x}" == TRACE_ID
    assert f"{recorded.parent.span_id:016x}" == SPAN_ID
    assert (recorded.start_time, recorded.end_time) == (100_000_000_000, 100_250_000_000)
    assert dict(recorded.attributes) == {"a": 1}
    assert (recorded.status.status_code, recorded.status.description) == (
        StatusCode.ERROR,
        "broken",
    )


def test_a_span_without_a_parent_begins_a_trace(exporter):
    record_span("step", parent="", start_seconds=1.0, end_seconds=2.0)
    (recorded,) = exporter.get_finished_spans()
    assert recorded.parent is None
    assert recorded.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("traceparent", "sampled"),
    [
        (TRACEPARENT, True),
        (UNSAMPLED, False),
        (TRACEPARENT[:-2] + "03", True),
        (TRACEPARENT[:-2] + "02", False),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-more", True),
        ("", False),
        ("nonsense", False),
    ],
)
def test_whether_a_trace_is_recorded(traceparent, sampled):
    assert is_sampled(traceparent) is sampled
    assert sampled_trace_id(traceparent) == (trace_id_of(traceparent) if sampled else "")


def unwanted():
    raise AssertionError("nobody reads the attributes of a span that is not recorded")


def test_a_trace_that_is_not_sampled_costs_no_span(exporter):
    with span_within(UNSAMPLED, "step", attributes=unwanted) as span:
        assert not span.is_recording()
        span.set_attribute("a", 1)
    assert exporter.get_finished_spans() == ()


def test_a_sampled_trace_gets_its_span(exporter):
    with span_within(TRACEPARENT, "step", attributes=lambda: {"a": 1}):
        assert trace_id_of(inject_traceparent()) == TRACE_ID
    (recorded,) = exporter.get_finished_spans()
    assert f"{recorded.parent.span_id:016x}" == SPAN_ID
    assert dict(recorded.attributes) == {"a": 1}


def test_a_span_belongs_to_the_current_call_where_no_span_is_current(exporter):
    with call_context(tenant_id="t", traceparent=UNSAMPLED):
        assert inject_traceparent() == UNSAMPLED
        with telemetry_trace.tracer().start_as_current_span("unrecorded"):
            assert inject_traceparent() == UNSAMPLED
    assert exporter.get_finished_spans() == ()
    with (
        call_context(tenant_id="t", traceparent=TRACEPARENT),
        telemetry_trace.tracer().start_as_current_span("recorded"),
    ):
        pass
    (recorded,) = exporter.get_finished_spans()
    assert f"{recorded.parent.span_id:016x}" == SPAN_ID


def test_spans_below_one_that_is_not_sampled_are_not_recorded_either(exporter):
    context = context_from_traceparent(UNSAMPLED)
    with (
        telemetry_trace.tracer().start_as_current_span("above", context=context),
        telemetry_trace.tracer().start_as_current_span("below"),
    ):
        assert trace_id_of(inject_traceparent()) == TRACE_ID
    assert exporter.get_finished_spans() == ()


def test_a_link_names_the_span_of_the_traceparent():
    (link,) = link_to(TRACEPARENT)
    assert traceparent_of(link.context) == TRACEPARENT
