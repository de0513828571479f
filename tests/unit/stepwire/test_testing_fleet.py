"""The simulated fleet, as the stock `openai` client sees it."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import openai
import pytest

from stepwire.testing.fleet import (
    EndpointPlan,
    FaultKind,
    FleetPlan,
    ModelPlan,
    RandomFault,
    SimulatedEndpoint,
    ToolCallPlan,
    Turn,
    running_fleet,
)
from stepwire.testing.fleet.latency import LogNormal
from stepwire.testing.fleet.plan import Fault, Outage, load_plan
from stepwire.testing.poll import eventually

HELLO: Any = [{"role": "user", "content": "How much did the river rise?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "metres": {"type": "number", "minimum": 2},
        "banks": {"type": "array", "items": {"enum": ["left", "right"]}},
        "sure": {"type": "boolean"},
    },
}
TOOL: Any = {"type": "function", "function": {"name": "gauge", "parameters": SCHEMA}}


@asynccontextmanager
async def endpoint(seed: int = 1, **fields: Any) -> AsyncIterator[SimulatedEndpoint]:
    async with running_fleet(EndpointPlan(name="east", **fields), seed=seed) as fleet:
        yield fleet["east"]


def client(of: SimulatedEndpoint, key: str = "k") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=key, base_url=of.base_url, max_retries=0, timeout=5)


async def ask(of: SimulatedEndpoint, **fields: Any) -> Any:
    async with client(of) as talking:
        return await talking.chat.completions.create(model="small", messages=HELLO, **fields)


async def collect(stream: Any, pieces: list[object]) -> None:
    async for piece in stream:
        pieces.append(piece)  # noqa: PERF401  (those before a break are wanted)


async def test_an_answer_says_what_it_used_and_is_counted() -> None:
    async with endpoint() as east:
        answer = await ask(east, max_tokens=5)
    assert len(answer.choices[0].message.content.split()) == 5
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5
    totals = east.account.totals
    assert (totals.prompt_tokens, totals.completion_tokens) == (answer.usage.prompt_tokens, 5)
    assert east.seen[0].body["messages"] == HELLO


async def test_a_stream_comes_in_pieces_with_usage_at_its_end() -> None:
    async with endpoint() as east:
        stream = await ask(east, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        whole = await ask(east)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split()) == 16
    assert chunks[-1].usage.completion_tokens == 16
    assert whole.usage.completion_tokens == 16


async def test_the_same_seed_gives_the_same_answers() -> None:
    said = []
    for seed in (7, 7, 8):
        async with endpoint(seed=seed) as east:
            answers = [await ask(east) for _ in range(3)]
            said.append([answer.choices[0].message.content for answer in answers])
    assert said[0] == said[1] != said[2]


async def test_schemas_and_tools_are_kept() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "rise", "schema": SCHEMA}}
    kept = {"metres": 2, "banks": ["left"], "sure": True}
    async with endpoint() as east:
        assert (
            json.loads((await ask(east, response_format=form)).choices[0].message.content) == kept
        )
        called = await ask(east, tools=[TOOL], tool_choice="required")
        stream = await ask(east, tools=[TOOL], tool_choice="required", stream=True)
        pieces = [chunk.choices[0].delta async for chunk in stream]
        left_alone = await ask(east, tools=[TOOL])
        east.then(Turn(tool_calls=(ToolCallPlan(name="gauge", arguments={"metres": 1}),)))
        scripted = await ask(east)
    call = called.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("gauge", kept)
    assert called.choices[0].finish_reason == "tool_calls"
    parts = [piece.tool_calls[0].function.arguments for piece in pieces if piece.tool_calls]
    assert len(parts) == 2
    assert json.loads("".join(parts)) == kept
    assert left_alone.choices[0].message.tool_calls is None
    assert scripted.choices[0].message.tool_calls[0].function.arguments == '{"metres":1}'


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(kind=FaultKind.RATE_LIMITED), 429, "rate_limit_exceeded"),
        (Fault(kind=FaultKind.NO_CREDIT), 402, "insufficient_quota"),
        (Fault(kind=FaultKind.NO_CREDIT, status=400), 400, "insufficient_quota"),
        (Fault(kind=FaultKind.CONTEXT_TOO_LONG), 400, "context_length_exceeded"),
        (Fault(kind=FaultKind.CONTENT_FILTERED), 400, "content_filter"),
        (Fault(kind=FaultKind.BAD_REQUEST), 400, None),
        (Fault(kind=FaultKind.UNAUTHORIZED), 401, "invalid_api_key"),
        (Fault(kind=FaultKind.SERVER_ERROR, status=503), 503, None),
    ],
)
async def test_faults_that_are_answers(fault: Fault, status: int, code: str | None) -> None:
    async with endpoint(script=(Turn(fault=fault),)) as east:
        with pytest.raises(openai.APIStatusError) as caught:
            await ask(east)
        assert (await ask(east)).usage.total_tokens > 0
        assert east.account.outcomes == {str(status): 1, "answered": 1}
    assert (caught.value.status_code, caught.value.code) == (status, code)


async def test_retry_after_is_a_number_or_a_date() -> None:
    async with endpoint() as east:
        east.fail("rate_limited", retry_after_seconds=1.5)
        east.fail("rate_limited", retry_after_seconds=30, retry_after_as="date")
        told = []
        for _ in range(2):
            with pytest.raises(openai.RateLimitError) as caught:
                await ask(east)
            told.append(caught.value.response.headers["retry-after"])
    assert told[0] == "1.5"
    assert 28 <= parsedate_to_datetime(told[1]).timestamp() - time.time() <= 32


@pytest.mark.parametrize("kind", ["disconnect", "cut"])
async def test_connections_that_end_early(kind: str) -> None:
    async with endpoint() as east:
        east.fail(kind)
        with pytest.raises(openai.APIConnectionError):
            await ask(east)
        assert (east.account.totals.completion_tokens > 0) == (kind == "cut")


async def test_streams_that_break() -> None:
    async with endpoint() as east:
        east.fail("cut", after_tokens=3)
        east.fail("garbage", after_tokens=3)
        got = []
        for broken in (httpx2.RemoteProtocolError, json.JSONDecodeError):
            pieces: list[object] = []
            with pytest.raises((broken, openai.APIError)):
                await collect(await ask(east, stream=True), pieces)
            got.append(len(pieces))
        assert got == [3, 3]
        assert east.account.totals.completion_tokens == 6


async def test_a_filtered_an_empty_and_a_garbled_answer() -> None:
    async with endpoint() as east:
        east.fail("content_filtered", after_tokens=2)
        east.fail("empty")
        east.fail("garbage")
        filtered, empty = await ask(east), await ask(east)
        async with httpx2.AsyncClient() as plain:
            body = {"model": "small", "messages": HELLO}
            garbage = await plain.post(f"{east.base_url}/chat/completions", json=body)
    assert filtered.choices[0].finish_reason == "content_filter"
    assert len(filtered.choices[0].message.content.split()) == 2
    assert not empty.choices[0].message.content
    assert (garbage.status_code, garbage.content[:6]) == (200, b"<html>")


async def test_a_client_that_goes_is_noticed_and_sold_nothing() -> None:
    async with endpoint() as east:
        east.fail("hang")
        asking = asyncio.create_task(ask(east, timeout=60))
        await eventually(lambda: east.account.totals.in_flight == 1)
        asking.cancel()
        await eventually(lambda: east.account.totals.abandoned == 1)
        assert east.account.totals.in_flight == 0
        assert east.account.totals.prompt_tokens == 0


async def test_limits_credit_and_outages() -> None:
    async with running_fleet(
        EndpointPlan(name="limited", requests_per_minute=2),
        EndpointPlan(name="poor", credit_tokens=1),
        EndpointPlan(name="down", outages=(Outage(from_seconds=0, to_seconds=1e6),)),
        EndpointPlan(name="keyed", keys=("right",)),
        EndpointPlan(name="small", models=(ModelPlan(name="small", context_window=3),)),
    ) as fleet:
        await ask(fleet["limited"])
        await ask(fleet["limited"])
        await ask(fleet["poor"])
        codes = []
        for each in fleet.endpoints.values():
            with pytest.raises(openai.APIStatusError) as caught:
                await ask(each)
            codes.append(caught.value.status_code)
    assert codes == [429, 402, 503, 401, 400]


async def test_chance_befalls_its_share() -> None:
    fault = Fault(kind=FaultKind.SERVER_ERROR)
    async with endpoint(faults=(RandomFault(share=0.3, fault=fault),)) as east:
        async with httpx2.AsyncClient() as plain:
            body = {"model": "small", "messages": HELLO}
            url = f"{east.base_url}/chat/completions"
            codes = [(await plain.post(url, json=body)).status_code for _ in range(200)]
        assert 40 <= codes.count(500) <= 80


def test_a_lognormal_has_the_median_and_the_tail_it_was_given() -> None:
    shape, random = LogNormal(median=0.2, p99=0.9), Random(3)
    drawn = sorted(shape.draw(random) for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(0.2, rel=0.05)
    assert drawn[19_800] == pytest.approx(0.9, rel=0.1)


async def test_embeddings_and_models() -> None:
    async with endpoint() as east, client(east) as talking:
        given = await talking.embeddings.create(model="small", input=["a", "b", "a"])
        names = [model.id async for model in talking.models.list()]
        with pytest.raises(openai.NotFoundError):
            await talking.embeddings.create(model="huge", input="a")
    first, second, again = (each.embedding for each in given.data)
    assert first == again != second
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-4)
    assert names == ["small"]


async def test_it_is_steered_by_calls() -> None:
    async with endpoint() as east, httpx2.AsyncClient() as http:
        root = f"http://127.0.0.1:{east.port}/_fleet"
        turn = {"fault": {"kind": "server_error", "status": 502}, "times": 2}
        assert (await http.post(f"{root}/script", json=turn)).status_code == 200
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                await ask(east)
        assert (await http.get(root)).json()["outcomes"] == {"502": 2}
        plan = {"name": "east", "credit_tokens": 0}
        assert (await http.put(f"{root}/plan", json=plan)).json()["requests"] == 0
        with pytest.raises(openai.APIStatusError, match="quota"):
            await ask(east)
        wrong = await http.post(f"{root}/script", json={"fault": {"kind": "boredom"}})
        assert (wrong.status_code, "boredom" in wrong.text) == (400, True)


async def test_plans_are_read_from_yaml_and_run_by_a_command(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "seed: 3\nendpoints:\n- name: east\n  latency_seconds: {shape: lognormal, median: 0.2, "
        "p99: 1}\n  faults: [{share: 0.1, fault: {kind: hang}}]\n- name: west\n"
    )
    assert load_plan(path).endpoints[0].latency_seconds == LogNormal(median=0.2, p99=1)
    with pytest.raises(ValueError, match="seeds"):
        FleetPlan.model_validate({"seeds": 1})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stepwire.testing.fleet", str(path)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    addresses = json.loads(await process.stdout.readline())
    async with httpx2.AsyncClient() as http:
        listed = await http.get(f"{addresses['west']}/models")
    process.terminate()
    assert await process.wait() == 0
    assert listed.json()["data"][0]["id"] == "small"
