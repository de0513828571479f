"""What a try and an answer leave in metrics and traces."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from router_svc.decide.decider import Decider
from router_svc.generate.pipeline import Router
from router_svc.requests.records import JsonSchema, Message, Request, Role
from stepwire.errors import StepwireError
from tests.integration.router_svc.assembled_router import assembled_router
from tests.integration.router_svc.chat_endpoint import ChatEndpoint, Reply, chat, refusal
from tests.integration.router_svc.running_router import chat_model

Both = tuple[Decider, Router]
REQUEST = Request(messages=(Message(Role.USER, "How high was it?"),))
CALLED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "small",
}


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
async def both(endpoint: ChatEndpoint, reader: InMemoryMetricReader) -> AsyncIterator[Both]:
    meters = MeterProvider([reader])
    models = [chat_model("small", endpoint.base_url, capabilities=["json"])]
    async with assembled_router(*models, meter=meters.get_meter("test")) as assembled:
        yield assembled
    meters.shutdown()


def points_of(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


async def test_an_answer_is_measured(
    both: Both, endpoint: ChatEndpoint, reader: InMemoryMetricReader
) -> None:
    endpoint.otherwise = chat("Here.", prompt_tokens=1000, completion_tokens=200)
    await both[1].generate(REQUEST, deadline=None)
    points = points_of(reader)
    (duration,) = points["gen_ai.client.operation.duration"]
    used = {"gen_ai.response.model": "some-model"}
    assert (duration.count, duration.attributes) == (1, CALLED | used)
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in points["gen_ai.client.token.usage"]
    }
    assert tokens == {"input": 1000, "output": 200}
    (cost,) = points["stepwire.router.cost"]
    assert cost.value == pytest.approx(0.001)
    (decision,) = points["stepwire.router.decisions"]
    assert decision.attributes == {
        "gen_ai.request.model": "small",
        "stepwire.router.outcome": "chosen",
    }


async def test_failures_and_refusals_are_counted(
    both: Both, endpoint: ChatEndpoint, reader: InMemoryMetricReader
) -> None:
    endpoint.otherwise = refusal(503)
    with pytest.raises(StepwireError):
        await both[1].generate(REQUEST, deadline=None)
    with pytest.raises(StepwireError):
        await both[0].decide(Request(messages=REQUEST.messages, model="huge"))
    points = points_of(reader)
    (duration,) = points["gen_ai.client.operation.duration"]
    assert duration.attributes == CALLED | {"error.type": "503"}
    outcomes = [
        point.attributes["stepwire.router.outcome"] for point in points["stepwire.router.decisions"]
    ]
    assert sorted(outcomes) == ["MODEL_NOT_FOUND", "chosen"]
    assert "gen_ai.client.token.usage" not in points


async def test_each_try_is_a_span(
    both: Both, endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    # The process's own provider can be set only once, so this test brings its own.
    monkeypatch.setattr("router_svc.generate.telemetry.tracer", lambda: provider.get_tracer("test"))
    endpoint.script.append(refusal(500))
    await both[1].generate(REQUEST, deadline=None)
    failed, answered = spans.get_finished_spans()
    assert failed.name == answered.name == "chat small"
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "500"
    assert answered.attributes == CALLED | {
        "gen_ai.request.max_tokens": 500,
        "gen_ai.response.model": "some-model",
        "gen_ai.response.finish_reasons": ("stop",),
        "stepwire.router.endpoint": "default",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
    }
    assert not failed.events


async def test_a_stream_is_measured(
    both: Both, endpoint: ChatEndpoint, reader: InMemoryMetricReader
) -> None:
    endpoint.otherwise = streamed("one", " two", " three")
    pieces = [piece async for piece in both[1].stream(REQUEST, deadline=None)]
    assert pieces[-1].end is not None
    points = points_of(reader)
    (first,) = points["gen_ai.client.operation.time_to_first_chunk"]
    (later,) = points["gen_ai.client.operation.time_per_output_chunk"]
    assert (first.count, later.count) == (1, 1)
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in points["gen_ai.client.token.usage"]
    }
    assert tokens == {"input": 100, "output": 3}


def streamed(*words: str) -> Reply:
    chunks: list[Any] = [{"choices": [{"delta": {"content": word}}]} for word in words]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 3}})
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    return Reply(body + b"data: [DONE]\n\n", content_type="text/event-stream")


async def test_what_is_wrong_with_an_answer_is_told_without_it(
    both: Both,
    endpoint: ChatEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr("router_svc.generate.telemetry.tracer", lambda: provider.get_tracer("test"))
    short = JsonSchema(
        {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}
    )
    endpoint.otherwise = chat('{"name": "Lovelace"}')
    with pytest.raises(StepwireError):
        await both[1].generate(replace(REQUEST, json_schema=short), deadline=None)
    records = [vars(record) for record in caplog.records]
    told = [span.to_json() for span in spans.get_finished_spans()] + [str(each) for each in records]
    assert [each for each in told if "the value is longer than 3 characters" in each]
    assert not [each for each in told if "Lovelace" in each]


@pytest.mark.parametrize("asked", [True, False])
async def test_prompts_are_in_spans_only_when_asked_for(
    endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch, *, asked: bool
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr("router_svc.generate.telemetry.tracer", lambda: provider.get_tracer("test"))
    model = chat_model("small", endpoint.base_url)
    async with assembled_router(model, meter=NoOpMeter("test"), record_prompts=asked) as (
        _,
        router,
    ):
        await router.generate(REQUEST, deadline=None)
    (span,) = spans.get_finished_spans()
    told = json.dumps(dict(span.attributes or {}), default=str)
    assert ("How high was it?" in told) is asked
    assert ("It rose by a metre." in told) is asked
