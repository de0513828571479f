import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from stepwire.testing.poll import eventually
from tests.integration.gateway.gateway_mesh import Mesh, UnaryCall, running_mesh

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.service_names: set[str] = set()
        self.spans: list[Any] = []

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            for attribute in resource.resource.attributes:
                if attribute.key == "service.name":
                    self.service_names.add(attribute.value.string_value)
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@asynccontextmanager
async def collecting(collector: Collector) -> AsyncIterator[str]:
    server = grpc.aio.server()
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def whole(log: Path, *, lines: int) -> str | None:
    """Return the text of a log, once it has that many lines."""
    text = log.read_text(encoding="utf-8")
    return text if text.count("\n") == lines else None


async def test_a_call_is_a_span_between_the_clients_and_the_services(tmp_path: Path) -> None:
    collector = Collector()
    async with (
        collecting(collector) as otlp_target,
        running_mesh(tmp_path, otlp_target=otlp_target) as mesh,
    ):
        await mesh.http.get("/v1/tasks/abc", headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
        (sent,) = mesh.executor.metadata["traceparent"]
        # Refused, and yet people do so.
        for path in ("/v1/tasks", "/v1/models", "/v1/nothing"):
            await mesh.http.get(path, params={"api_key": "hunter2"})
        # Envoy sends its spans every 5 s.
        await eventually(lambda: len(collector.spans) == 1 + 3, timeout_seconds=20)
        log = await eventually(lambda: whole(mesh.envoy.access_log, lines=1 + 3))
    (span,) = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    assert span.parent_span_id.hex() == CALLER
    assert sent == f"00-{TRACE}-{span.span_id.hex()}-01"
    assert span.name == "/stepwire.api.executor.v1.ExecutorService/GetTask"
    assert collector.service_names == {"gateway"}
    # What stands in a query is nobody's business but the service's.
    assert "hunter2" not in f"{log}{collector.spans}"
    urls = {
        attribute.value.string_value for each in collector.spans for attribute in each.attributes
    }
    assert {f"http://{mesh.envoy.target}/v1/{name}" for name in ("tasks", "tasks/abc")} < urls


async def test_a_call_that_is_not_sampled_tells_the_services_so(tmp_path: Path) -> None:
    async with (
        collecting(Collector()) as otlp_target,
        running_mesh(tmp_path, otlp_target=otlp_target, trace_sampling_percent=0) as mesh,
    ):
        await mesh.http.get("/v1/tasks/abc")
        (own,) = mesh.executor.metadata["traceparent"]
        await mesh.http.get("/v1/tasks/abc", headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
        (callers,) = mesh.executor.metadata["traceparent"]
    assert own.endswith("-00")
    assert callers.startswith(f"00-{TRACE}-")
    assert callers.endswith("-01")


async def test_without_a_collector_the_clients_trace_is_passed_on(mesh: Mesh) -> None:
    traceparent = f"00-{TRACE}-{CALLER}-01"
    await mesh.http.get("/v1/tasks/abc", headers={"traceparent": traceparent})
    assert mesh.executor.metadata["traceparent"] == [traceparent]


async def test_each_call_is_a_line_of_json(mesh: Mesh) -> None:
    await mesh.http.get("/v1/tasks/missing", headers={"x-request-id": "line-json"})
    call: UnaryCall = mesh.channel.unary_unary("/stepwire.api.executor.v1.ExecutorService/GetTask")
    await asyncio.gather(
        call(b"\x0a\x07missing", metadata=(("x-request-id", "line-grpc"),)),
        return_exceptions=True,
    )

    def lines() -> dict[str, Any] | None:
        read = map(json.loads, mesh.envoy.access_log.read_text(encoding="utf-8").splitlines())
        found = {line["request_id"]: line for line in read}
        return found if {"line-json", "line-grpc"} <= set(found) else None

    written = await eventually(lines)
    assert written is not None
    of_json, of_grpc = written["line-json"], written["line-grpc"]
    for line in (of_json, of_grpc):
        assert line["path"] == "/stepwire.api.executor.v1.ExecutorService/GetTask"
        assert line["upstream"] == "executor"
        assert line["tenant_id"] == "default"
        assert isinstance(line["duration_ms"], int)
    assert of_json["original_path"] == "/v1/tasks/missing"
    assert (of_json["http_method"], of_json["http_status"]) == ("GET", 404)
    assert "grpc_status" not in of_json
    assert of_grpc["grpc_status"] == "NOT_FOUND"


async def test_metrics_name_service_and_method(mesh: Mesh) -> None:
    await mesh.http.get("/v1/tasks/abc")
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{mesh.envoy.admin_target}/stats/prometheus")
    labels = (
        'envoy_grpc_bridge_method="GetTask",'
        'envoy_grpc_bridge_service="stepwire_api_executor_v1_ExecutorService"'
    )
    assert f"envoy_cluster_grpc_success{{{labels}" in answer.text
