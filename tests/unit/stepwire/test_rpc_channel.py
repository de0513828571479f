"""What a channel passes on from call to call, and what it records."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.rpc import Server, Service, call_context, client, current_call, open_channel
from stepwire.rpc.interceptors import tracing
from stepwire.rpc.status import from_rpc_error
from stepwire.settings import ServiceSettings
from stepwire.telemetry import inject_traceparent
from stepwire.telemetry.tracer import QuietTracer
from stepwire.testing.poll import eventually
from tests.unit.stepwire.durations_read import counts, histograms

METHOD = "/test.Unary/Do"
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def service(do):
    """A service whose one unary method is `do(request)`."""

    async def handler(request, context):
        return await do(request)

    def add(server):
        handlers = {"Do": grpc.unary_unary_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Unary", handlers),)
        )

    return Service("test.Unary", add)


@asynccontextmanager
async def connected(do, **options):
    async with (
        Server("test", ServiceSettings(port=0), [service(do)]) as server,
        open_channel(server.address, **options) as channel,
    ):
        yield channel


@asynccontextmanager
async def forwarding(do):
    """A channel to a server that forwards each call to another one, which does `do`."""
    async with connected(do) as onward:

        async def forward(request):
            return await onward.unary_unary(METHOD)(request)

        async with (
            Server("front", ServiceSettings(port=0), [service(forward)]) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            yield channel


@pytest.fixture
def spans(monkeypatch):
    """The spans that servers and channels record, in the order of their ends."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in (tracing, client):
        monkeypatch.setattr(module, "tracer", lambda: QuietTracer(provider.get_tracer("test")))
    monkeypatch.setattr(tracing, "records_spans", lambda: True)
    yield exporter
    provider.shutdown()


async def info(request):
    call = current_call()
    left = None if call.deadline is None else call.deadline - time.monotonic()
    return json.dumps([call.tenant_id, call.request_id, left]).encode()


async def test_tenant_request_id_and_deadline_are_passed_through_a_server():
    async with forwarding(info) as channel:
        metadata = (("x-tenant-id", "acme"), ("x-request-id", "r-1"))
        got = await channel.unary_unary(METHOD)(b"", metadata=metadata, timeout=20)
    tenant, request_id, left = json.loads(got)
    assert (tenant, request_id) == ("acme", "r-1")
    assert 10 < left < 20


async def test_the_context_of_a_step_is_passed_on():
    async with connected(info) as channel:
        with call_context(tenant_id="acme", request_id="r-1", deadline=time.monotonic() + 9):
            got = await channel.unary_unary(METHOD)(b"", timeout=50)
    tenant, request_id, left = json.loads(got)
    assert (tenant, request_id) == ("acme", "r-1")
    assert 4 < left < 9


async def test_a_shorter_timeout_of_the_calls_own_is_kept():
    async with connected(info) as channel:
        with call_context(tenant_id="acme", deadline=time.monotonic() + 50):
            got = await channel.unary_unary(METHOD)(b"", timeout=9)
    assert json.loads(got)[2] < 9


async def test_a_call_after_the_deadline_is_not_made():
    seen = []

    async def note(request):
        seen.append(request)
        return request

    async with connected(note) as channel:
        with (
            call_context(tenant_id="acme", deadline=time.monotonic() - 1),
            pytest.raises(grpc.aio.AioRpcError) as caught,
        ):
            await channel.unary_unary(METHOD)(b"late")
        await channel.unary_unary(METHOD)(b"in time")
    assert seen == [b"in time"]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert from_rpc_error(caught.value).reason is Reason.DEADLINE_EXCEEDED


async def test_outside_a_call_the_server_makes_the_request_id():
    async with connected(info) as channel:
        tenant, request_id, _ = json.loads(await channel.unary_unary(METHOD)(b""))
    assert tenant == "default"
    assert request_id


async def test_metadata_of_the_calls_own_goes_first():
    async with connected(info) as channel:
        with call_context(tenant_id="acme", request_id="r-1"):
            got = await channel.unary_unary(METHOD)(b"", metadata=(("x-tenant-id", "mine"),))
    assert json.loads(got)[:2] == ["mine", "r-1"]


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_passes_the_tenant_on(shape):
    async def unary(request, context):
        return current_call().tenant_id.encode()

    async def stream(request, context):
        yield current_call().tenant_id.encode()

    handler = stream if shape.endswith("stream") else unary

    def add(server):
        handlers = {"Do": getattr(grpc, f"{shape}_rpc_method_handler")(handler)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Unary", handlers),)
        )

    async with (
        Server("test", ServiceSettings(port=0), [Service("test.Unary", add)]) as server,
        open_channel(server.address) as channel,
    ):
        with call_context(tenant_id="acme"):
            method = getattr(channel, shape)(METHOD)
            call = method([b"x"] if shape.startswith("stream") else b"x")
        answer = await call if shape.endswith("unary") else await call.read()
    assert answer == b"acme"


# --- traces


async def test_one_trace_runs_from_the_caller_through_every_service(spans):
    async def fail(request):
        raise field_invalid("a", "b")

    async with forwarding(fail) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"", metadata=(("traceparent", TRACEPARENT),))
        inner, onward, outer = await eventually(
            lambda: (ended := spans.get_finished_spans()) and len(ended) == 3 and ended
        )
    assert from_rpc_error(caught.value).reason is Reason.FIELD_INVALID
    assert [s.kind for s in (outer, onward, inner)] == [
        SpanKind.SERVER,
        SpanKind.CLIENT,
        SpanKind.SERVER,
    ]
    assert {f"{s.context.trace_id:032x}" for s in (inner, onward, outer)} == {TRACEPARENT[3:35]}
    assert f"{outer.parent.span_id:016x}" == TRACEPARENT[36:52]
    assert onward.parent.span_id == outer.context.span_id
    assert inner.parent.span_id == onward.context.span_id
    assert outer.name == "test.Unary/Do"
    assert outer.attributes["rpc.system.name"] == "grpc"
    assert outer.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert outer.attributes["stepwire.reason"] == "FIELD_INVALID"
    # What the caller did wrong is an error to the caller, not to the server.
    assert outer.status.status_code is StatusCode.UNSET
    assert onward.status.status_code is StatusCode.ERROR


async def test_the_handlers_current_span_is_the_servers(spans):
    async def traceparent(request):
        return inject_traceparent().encode()

    async with connected(traceparent) as channel:
        got = (await channel.unary_unary(METHOD)(b"")).decode()
        server, called = await eventually(
            lambda: (ended := spans.get_finished_spans()) and len(ended) == 2 and ended
        )
    assert got[3:35] == f"{called.context.trace_id:032x}" == f"{server.context.trace_id:032x}"
    assert got[36:52] == f"{server.context.span_id:016x}"


async def test_a_trace_is_passed_on_where_nothing_is_recorded():
    async def traceparent(request):
        return inject_traceparent().encode()

    async with forwarding(traceparent) as channel:
        metadata = (("traceparent", TRACEPARENT),)
        assert await channel.unary_unary(METHOD)(b"", metadata=metadata) == TRACEPARENT.encode()
        assert await channel.unary_unary(METHOD)(b"") == b""


async def test_a_trace_that_is_not_sampled_passes_through_without_spans(spans):
    unsampled = TRACEPARENT[:-2] + "00"

    async def traceparent(request):
        with tracing.tracer().start_as_current_span("within"):
            return inject_traceparent().encode()

    async with forwarding(traceparent) as channel:
        metadata = (("traceparent", unsampled),)
        assert await channel.unary_unary(METHOD)(b"", metadata=metadata) == unsampled.encode()
        assert spans.get_finished_spans() == ()
        # The next call is none of that trace's.
        await channel.unary_unary(METHOD)(b"")
        await eventually(lambda: len(spans.get_finished_spans()) == 4)


async def test_a_step_of_a_trace_that_is_not_sampled_passes_it_on(spans):
    unsampled = TRACEPARENT[:-2] + "00"

    async def traceparent(request):
        return inject_traceparent().encode()

    async with connected(traceparent) as channel:
        with call_context(tenant_id="acme", traceparent=unsampled):
            assert await channel.unary_unary(METHOD)(b"") == unsampled.encode()
    assert spans.get_finished_spans() == ()


async def test_health_has_no_server_span(spans):
    async with Server("test", ServiceSettings(port=0), []) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            await channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
        assert spans.get_finished_spans() == ()


# --- what is recorded


async def test_calls_are_measured_however_they_end(monkeypatch):
    measured = histograms(monkeypatch, client)
    began = asyncio.Event()

    async def do(request):
        if request == b"bad":
            raise field_invalid("a", "b")
        if request == b"wait":
            began.set()
            await asyncio.Event().wait()
        return request

    def by_code():
        return counts(measured["rpc.client.call.duration"], "rpc.response.status_code")

    async with connected(do) as channel:
        method = channel.unary_unary(METHOD)
        await method(b"good")
        with pytest.raises(grpc.aio.AioRpcError):
            await method(b"bad")
        waiting = method(b"wait")
        await began.wait()
        waiting.cancel()
        expected = {("OK",): 1, ("INVALID_ARGUMENT",): 1, ("CANCELLED",): 1}
        await eventually(lambda: by_code() == expected)


@pytest.mark.parametrize(("retry", "calls"), [(True, 3), (False, 1)])
async def test_unavailable_is_tried_again_where_that_is_allowed(retry, calls):
    seen = 0

    async def recover(request):
        nonlocal seen
        seen += 1
        if seen < 3:
            raise StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "not yet")
        return b"done"

    async with connected(recover, retry_unavailable=retry) as channel:
        call = channel.unary_unary(METHOD)(b"")
        code = await call.code()
    assert seen == calls
    assert code is (grpc.StatusCode.OK if retry else grpc.StatusCode.UNAVAILABLE)


async def test_calls_go_to_all_instances_that_a_name_stands_for():
    callers = {"127.0.0.1": 0, "127.0.0.2": 0}

    def instance(host, port):
        async def do(request):
            callers[host] += 1
            return b""

        return Server("test", ServiceSettings(host=host, port=port), [service(do)])

    async with instance("127.0.0.1", 0) as first, instance("127.0.0.2", first.port):
        # As a DNS name with two addresses, which no test can count on.
        target = f"ipv4:127.0.0.1:{first.port},127.0.0.2:{first.port}"
        async with open_channel(target) as channel:
            call = channel.unary_unary(METHOD)

            async def all_are_called():
                await call(b"")
                return all(callers.values())

            assert await eventually(all_are_called)
