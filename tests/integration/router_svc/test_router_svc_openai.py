"""OpenAI's own client against gateway, router and simulated providers."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from gateway.testing import free_ports
from stepwire.testing.fleet import EndpointPlan, Turn, running_fleet
from stepwire.testing.fleet.latency import Constant
from stepwire.testing.poll import eventually
from tests.integration.router_svc.extract_service import DIMENSION
from tests.integration.router_svc.house import House
from tests.integration.router_svc.running_router import running_router
from tests.integration.router_svc.test_router_svc_stream import SCHEMA, simulated

ASK: Any = [{"role": "user", "content": "How much did the river rise?"}]
TOOLS: Any = [{"type": "function", "function": {"name": "gauge", "parameters": SCHEMA}}]
PICTURE = "data:image/png;base64,aGk="


async def collected(stream: AsyncIterator[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in stream]


async def test_an_answer_comes_whole(house: House) -> None:
    answered = await house.client.chat.completions.with_raw_response.create(
        model="auto", messages=ASK, max_tokens=7, temperature=0.5, top_p=0.9, stop="END", seed=3
    )
    answer, headers = answered.parse(), answered.headers
    (choice,), usage = answer.choices, answer.usage
    assert choice.message.content is not None
    assert (len(choice.message.content.split()), choice.finish_reason) == (7, "length")
    assert usage is not None
    assert (usage.completion_tokens, usage.total_tokens) == (7, usage.prompt_tokens + 7)
    assert (answer.model, headers["x-stepwire-model"]) == ("east", "east")
    told: Any = answer.model_extra
    assert told["stepwire"]["decision_id"] == headers["x-stepwire-decision-id"]
    assert str(told["stepwire"]["cost_micro_usd"]) == headers["x-stepwire-cost-micro-usd"]
    assert headers.get_list("x-request-id") == [headers["x-request-id"]]
    body = house.body()
    assert [body[name] for name in ("temperature", "top_p", "stop", "seed", "max_tokens")] == [
        *(0.5, 0.9, ["END"], 3, 7)
    ]


async def test_an_answer_comes_in_pieces(house: House) -> None:
    stream = await house.client.chat.completions.create(
        model="auto", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = await collected(stream)
    *pieces, last, usage = chunks
    assert len(pieces) == 16
    assert [piece.choices[0].delta.role for piece in pieces] == ["assistant"] + [None] * 15
    assert (last.choices[0].finish_reason, last.model) == ("stop", "east")
    assert usage.usage is not None
    assert (usage.choices, usage.usage.completion_tokens) == ([], 16)
    assert len({chunk.id for chunk in chunks}) == 1
    plain = await house.client.chat.completions.create(model="auto", messages=ASK, stream=True)
    assert all("usage" not in chunk.model_fields_set for chunk in await collected(plain))


@pytest.mark.parametrize("streamed", [True, False])
async def test_tools_are_called_and_their_answers_sent(house: House, *, streamed: bool) -> None:
    asked: dict[str, Any] = {"model": "auto", "messages": ASK, "tools": TOOLS}
    if streamed:
        chunks = await collected(
            await house.client.chat.completions.create(
                **asked,
                stream=True,
                tool_choice={"type": "function", "function": {"name": "gauge"}},
            )
        )
        (called,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        finish = chunks[-1].choices[0].finish_reason
    else:
        answer = await house.client.chat.completions.create(**asked, tool_choice="required")
        ((called,), finish) = (
            answer.choices[0].message.tool_calls or (),
            answer.choices[0].finish_reason,
        )
    call: Any = called
    assert (call.function.name, json.loads(call.function.arguments)) == ("gauge", {"metres": 2})
    assert finish == "tool_calls"
    more = [
        {"role": "assistant", "tool_calls": [call.model_dump(include={"id", "type", "function"})]},
        {"role": "tool", "tool_call_id": call.id, "content": "2 metres"},
    ]
    await house.client.chat.completions.create(model="auto", messages=ASK + more, tools=TOOLS)
    assert house.body()["messages"][2] == {
        "role": "tool",
        "content": "2 metres",
        "tool_call_id": call.id,
    }


async def test_schemas_reach_the_model_as_they_are_written(house: House) -> None:
    names = ["reasoning", "metres", "answer", "zeta", "alpha", "omega", "beta"]
    schema = {
        "type": "object",
        "properties": {name: {"type": "string", "maxLength": 90} for name in names},
    }
    tools: Any = [{"type": "function", "function": {"name": "gauge", "parameters": schema}}]
    form: Any = {"type": "json_schema", "json_schema": {"name": "rise", "schema": schema}}
    await house.client.chat.completions.create(
        model="auto", messages=ASK, tools=tools, tool_choice="none", response_format=form
    )
    body = house.body()
    for sent in (
        body["tools"][0]["function"]["parameters"],
        body["response_format"]["json_schema"]["schema"],
    ):
        assert json.dumps(sent) == json.dumps(schema)


class Rise(BaseModel):
    metres: float
    places: list[str]


async def test_an_answer_is_parsed_by_a_schema(house: House) -> None:
    house.east.then(Turn(text='{"metres": "two"}'))
    parsed = await house.client.chat.completions.parse(
        model="auto", messages=ASK, response_format=Rise
    )
    assert parsed.choices[0].message.parsed == Rise(metres=1.5, places=["text"])
    told: Any = parsed.model_extra
    assert [each["kind"] for each in told["stepwire"]["attempts"]] == ["off_schema"]
    answer = await house.client.chat.completions.create(
        model="auto", messages=ASK, response_format={"type": "json_object"}
    )
    assert answer.choices[0].message.content == "{}"
    assert house.body()["response_format"] == {"type": "json_object"}


async def test_parts_of_messages_and_pictures_are_passed_on(house: House) -> None:
    parts = [
        {"type": "text", "text": "What"},
        {"type": "text", "text": "is this?"},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]
    messages: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts},
    ]
    await house.client.chat.completions.create(model="auto", messages=messages)
    first, second = house.body()["messages"]
    assert first == {"role": "system", "content": "Be brief."}
    assert second["content"][0]["text"] == "What\nis this?"
    assert second["content"][1]["image_url"]["url"] == PICTURE


async def test_what_only_stepwire_has_goes_by_a_field_and_by_headers(house: House) -> None:
    own = {
        "documents": [{"id": "report", "text": "It rose by a metre."}],
        "attribution": {"project": "rivers"},
        "explain": True,
    }
    house.east.then(Turn(text="A metre [1]."))
    answer = await house.client.chat.completions.create(
        model="east", messages=ASK, user="u", extra_body={"stepwire": own}
    )
    told: Any = answer.model_extra
    assert answer.choices[0].message.content == "A metre [report]."
    assert told["stepwire"]["citations"] == [{"document_id": "report"}]
    candidates = told["stepwire"]["decision"]["candidates"]
    assert [each["model"] for each in candidates] == ["east", "west", "quotes"]
    assert told["stepwire"]["ignored"] == ["user"]
    with pytest.raises(openai.BadRequestError) as caught:
        await house.client.chat.completions.create(
            model="auto", messages=ASK, extra_headers={"x-stepwire-min-quality": "0.99"}
        )
    assert caught.value.code == "no_eligible_model"


@pytest.mark.parametrize(
    ("changes", "param", "told"),
    [
        ({"messages": []}, "messages", "must be 1 to"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "should be"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "required",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:x,y"}}],
                    }
                ]
            },
            "messages[0].content[0].image_url.url",
            "base64",
        ),
        ({"n": 2}, "n", "cannot be passed on"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "cannot be passed on"),
        ({"temperature": 3}, "temperature", "must be from 0 to 2"),
        ({"max_tokens": 2**40}, "max_completion_tokens", "too large"),
        (
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name",
            "letters",
        ),
        ({"tool_choice": "required"}, "tool_choice", "where there are none"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
            "response_format.json_schema.schema",
            "is not a JSON Schema",
        ),
        ({"extra_body": {"stepwire": {"documentz": []}}}, "stepwire.documentz", "unknown"),
        ({"extra_body": {"stepwire": {"cache": {"mode": "X"}}}}, "stepwire", "mode"),
        ({"extra_body": {"stepwire": {"explain": 1}}}, "stepwire.explain", "true or false"),
        ({"extra_headers": {"x-stepwire-cache": "x"}}, "x-stepwire-cache", "must be off"),
        ({"extra_headers": {"x-stepwire-min-quality": "x"}}, "x-stepwire-min-quality", "number"),
        (
            {"extra_headers": {"x-stepwire-timeout-seconds": "-1"}},
            "x-stepwire-timeout-seconds",
            "above 0",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_wrong_with_a_request_is_named(
    house: House, changes: dict[str, Any], param: str, told: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await house.client.chat.completions.create(
            **{"model": "auto", "messages": ASK, "stream": True, **changes}
        )
    error = caught.value
    assert (error.type, error.param, error.code) == (
        "invalid_request_error",
        param,
        "field_invalid",
    )
    assert told in error.message
    assert not house.east.seen


async def test_other_errors_have_their_status_and_class(house: House) -> None:
    create = house.client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        await create(model="none", messages=ASK)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await house.client.post("/chat/nothing", cast_to=object)
    with pytest.raises(openai.APIStatusError) as large:
        await create(model="auto", messages=[{"role": "user", "content": "x" * 30_000}])
    assert (large.value.status_code, large.value.code) == (413, "payload_too_large")
    for endpoint in house.fleet.endpoints.values():
        endpoint.fail("server_error", times=9)
    with pytest.raises(openai.RateLimitError) as exhausted:
        await create(model="auto", messages=ASK)
    # All of it was tried; the client is told not to begin anew.
    assert exhausted.value.code == "models_exhausted"
    assert exhausted.value.response.headers["x-should-retry"] == "false"
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{house.url}/chat/completions", content=b"{bad")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "body")
        answer = await http.get(f"{house.url}/chat/completions")
        assert answer.status_code == 405


async def test_a_limit_of_the_provider_is_told_with_its_time(tmp_path: Path) -> None:
    # A router of its own, since a provider that names a time is left alone for it.
    (port,) = free_ports(1)
    async with (
        running_fleet("east") as fleet,
        running_router(tmp_path, simulated(fleet["east"]), http_port=port),
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0
        ) as client,
    ):
        fleet["east"].fail("rate_limited", retry_after_seconds=25.5, times=9)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="auto", messages=ASK)
    headers = caught.value.response.headers
    assert headers["retry-after"] == "26"
    assert "x-should-retry" not in headers


@pytest.mark.parametrize("fault", ["cut", "garbage"])
async def test_a_stream_that_breaks_off_raises(house: House, fault: str) -> None:
    house.east.fail(fault, after_tokens=3)
    stream = await house.client.chat.completions.create(model="east", messages=ASK, stream=True)
    chunks = aiter(stream)
    for _ in range(3):
        assert (await anext(chunks)).choices[0].delta.content
    with pytest.raises(openai.APIError) as caught:
        await anext(chunks)
    assert caught.value.code == "provider_unavailable"


async def test_a_stream_that_has_not_begun_has_a_status(house: House) -> None:
    house.east.fail("bad_request")
    with pytest.raises(openai.BadRequestError) as caught:
        await house.client.chat.completions.create(model="east", messages=ASK, stream=True)
    assert caught.value.code == "provider_rejected"


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_goes_away_ends_the_providers_work(
    house: House, *, streamed: bool
) -> None:
    if streamed:
        slow = {"token_seconds": Constant(value=0.01), "answer_tokens": Constant(value=10_000)}
        house.east.reset(EndpointPlan(name="east", **slow))
        stream = await house.client.chat.completions.create(model="east", messages=ASK, stream=True)
        await anext(aiter(stream))
        await stream.close()
    else:
        house.east.then(Turn(latency_seconds=30))
        call = asyncio.create_task(house.client.chat.completions.create(model="east", messages=ASK))
        await eventually(lambda: house.east.account.totals.in_flight == 1)
        call.cancel()
    await eventually(lambda: house.east.account.totals.abandoned == 1)
    assert house.east.account.totals.completion_tokens < 1_000


async def test_a_deadline_of_the_client_holds(house: House) -> None:
    house.east.fail("hang", times=9)
    with pytest.raises(openai.InternalServerError) as caught:
        await house.client.chat.completions.create(
            model="east", messages=ASK, extra_headers={"x-stepwire-timeout-seconds": "0.3"}
        )
    assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")
    await eventually(lambda: house.east.account.totals.abandoned == 1)


async def test_texts_are_embedded(house: House) -> None:
    texts = ["The river rose.", "The river fell."]
    # The client asks for bytes, and makes lists of them.
    packed = await house.client.embeddings.create(model="auto", input=texts)
    listed = await house.client.embeddings.create(
        model="auto", input=texts, encoding_format="float"
    )
    assert [len(each.embedding) for each in packed.data] == [DIMENSION] * 2
    for one, other in zip(packed.data, listed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    with pytest.raises(openai.BadRequestError) as caught:
        await house.client.embeddings.create(model="auto", input=[1, 2])
    assert caught.value.param == "input"
