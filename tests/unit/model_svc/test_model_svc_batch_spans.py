import asyncio
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, Tracer

from model_svc.running import batch_span
from model_svc.running.batcher import Batcher
from model_svc.running.budgets import RowBudget
from model_svc.running.execute import Executed
from model_svc.running.plan import RunPlan
from stepwire.testing.poll import eventually
from tests.unit.model_svc.batch_recorder import BatchRecorder, staying


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracer]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr(batch_span, "tracer", lambda: tracer)
    yield tracer
    provider.shutdown()


class Held:
    """Holds its first batch until told; fails those with an "x"."""

    def __init__(self) -> None:
        self.began = 0
        self.gate = asyncio.Event()

    async def __call__(self, payloads: Sequence[str], *, alone: bool) -> Executed:
        self.began += 1
        await self.gate.wait()
        if "x" in payloads:
            raise ArithmeticError("no good")
        return Executed(list(payloads), "cpu")


async def run(tracer: Tracer, *traced: str, untraced: Sequence[str] = ()) -> None:
    """Lets one batch of these run."""
    execute = Held()
    batcher = Batcher(
        "m",
        execute,
        place=staying(RowBudget(10)),
        plan=RunPlan(),
        max_waiting=100,
        clock=asyncio.get_running_loop().time,
        observer=BatchRecorder(),
    )

    async def call(name: str) -> None:
        with tracer.start_as_current_span(name):
            await batcher.run([(name, 1, "g")])

    tasks = [asyncio.create_task(batcher.run([("first", 1, "g")]))]
    await eventually(lambda: execute.began)
    tasks += [asyncio.create_task(call(name)) for name in traced]
    tasks += [asyncio.create_task(batcher.run([(name, 1, "g")])) for name in untraced]
    await eventually(lambda: batcher.waiting == len(traced) + len(untraced))
    execute.gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_batch_is_linked_with_all_traced_calls(
    tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    await run(tracer, "a", "b", untraced=["c"])
    spans = {span.name: span for span in exporter.get_finished_spans()}
    batch, first, second = spans["model.batch"], spans["a"], spans["b"]
    assert batch.parent is not None
    assert batch.parent.span_id == first.context.span_id
    assert [link.context.span_id for link in batch.links] == [second.context.span_id]
    for span in (first, second):
        assert [link.context.span_id for link in span.links] == [batch.context.span_id]
    assert dict(batch.attributes or {}) == {
        "stepwire.model": "m",
        "stepwire.model.batch.items": 3,
    }


async def test_a_batch_without_traced_calls_has_no_span(
    tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    await run(tracer, untraced=["a", "b"])
    assert exporter.get_finished_spans() == ()


async def test_a_failed_batch_says_so(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    await run(tracer, "x")
    (batch,) = (span for span in exporter.get_finished_spans() if span.name == "model.batch")
    assert batch.status.status_code is StatusCode.ERROR
    assert batch.status.description == "no good"
