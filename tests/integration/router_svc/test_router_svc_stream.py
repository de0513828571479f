"""Generate and StreamGenerate against simulated providers, through gRPC."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from stepwire.api.router.v1 import message_pb2 as message_pb
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.errors import Reason
from stepwire.rpc.status import from_rpc_error
from stepwire.testing.fleet import (
    EndpointPlan,
    Fleet,
    ModelPlan,
    SimulatedEndpoint,
    ToolCallPlan,
    Turn,
    running_fleet,
)
from stepwire.testing.fleet.latency import Constant
from stepwire.testing.poll import eventually
from tests.integration.router_svc.running_router import (
    DEAR,
    ask,
    chat_model,
    error_of,
    report,
    running_router,
)

if TYPE_CHECKING:
    from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceAsyncStub

SCHEMA = {"type": "object", "properties": {"metres": {"type": "number", "minimum": 2}}}


def struct(value: dict[str, Any]) -> Struct:
    return ParseDict(value, Struct())


def simulated(of: SimulatedEndpoint, name: str = "small", **fields: Any) -> dict[str, Any]:
    model = chat_model(name, of.base_url, **fields)
    model["provider"]["model"] = "small"
    model.setdefault("capabilities", ["tools", "json"])
    return model


@asynccontextmanager
async def mesh(
    folder: Path, *plans: EndpointPlan | str, timeout_seconds: float = 60, **settings: Any
) -> AsyncIterator[tuple[Fleet, "RouterServiceAsyncStub"]]:
    """Runs a fleet, and a router with one model at each endpoint, named like it."""
    async with running_fleet(*plans) as fleet:
        models = [
            simulated(each, name, timeout_seconds=timeout_seconds)
            for name, each in fleet.endpoints.items()
        ]
        async with running_router(
            folder, *models, **{"retry_longest_wait_seconds": 0.3, **settings}
        ) as stub:
            yield fleet, stub


async def stream(
    stub: "RouterServiceAsyncStub", request: pb.GenerateRequest
) -> list[pb.StreamGenerateResponse]:
    call = stub.StreamGenerate(pb.StreamGenerateRequest(request=request))
    return [piece async for piece in call]


def text_of(pieces: list[pb.StreamGenerateResponse]) -> str:
    return "".join(piece.text for piece in pieces)


async def test_a_stream_has_the_answer_and_then_its_account(tmp_path: Path) -> None:
    async with mesh(tmp_path, "east") as (fleet, stub):
        pieces = await stream(stub, ask(max_output_tokens=7))
        sold = fleet["east"].account.totals
        assert fleet["east"].seen[0].body["stream_options"] == {"include_usage": True}
    end = pieces[-1].end
    assert len(text_of(pieces).split()) == 7
    assert len(pieces) > 2
    assert end.text == ""
    assert end.model == "east"
    assert end.finish_reason == message_pb.FINISH_REASON_LENGTH
    assert (end.usage.input_tokens, end.usage.output_tokens) == (sold.prompt_tokens, 7)
    assert not end.usage.estimated


@pytest.mark.parametrize("streamed", [True, False])
async def test_tools_are_called_and_answered(tmp_path: Path, *, streamed: bool) -> None:
    tools = [message_pb.Tool(name="gauge", description="Reads it.", parameters=struct(SCHEMA))]
    must = message_pb.ToolChoice(mode=message_pb.TOOL_MODE_REQUIRED)
    async with mesh(tmp_path, "east") as (fleet, stub):
        request = ask(tools=tools, tool_choice=must)
        if streamed:
            pieces = await stream(stub, request)
            (call,) = [each.tool_call for each in pieces if each.HasField("tool_call")]
            finish = pieces[-1].end.finish_reason
        else:
            answer = await stub.Generate(request)
            (call,), finish = answer.tool_calls, answer.finish_reason
            assert answer.text == ""
        request.ClearField("tool_choice")
        request.messages.add(role=message_pb.ROLE_ASSISTANT, tool_calls=[call])
        request.messages.add(role=message_pb.ROLE_TOOL, content="2 metres", tool_call_id=call.id)
        last = await stub.Generate(request)
        seen = fleet["east"].seen
    assert (call.name, json.loads(call.arguments_json)) == ("gauge", {"metres": 2})
    assert finish == message_pb.FINISH_REASON_TOOL_CALLS
    assert last.text
    assert seen[0].body["tools"][0]["function"]["parameters"] == SCHEMA
    assert seen[0].body["tool_choice"] == "required"
    assert seen[1].body["messages"][1]["tool_calls"][0]["id"] == call.id
    told = {"role": "tool", "content": "2 metres", "tool_call_id": call.id}
    assert seen[1].body["messages"][2] == told


async def test_a_model_is_told_once_what_is_wrong_with_its_answer(tmp_path: Path) -> None:
    schema = message_pb.JsonSchema(name="rise", schema=struct(SCHEMA))
    async with running_fleet("east", "west") as fleet:
        models = [simulated(fleet["east"], "east"), simulated(fleet["west"], "west", prices=[DEAR])]
        async with running_router(tmp_path, *models) as stub:
            answer = await stub.Generate(ask(json_schema=schema))
            fleet["east"].then(Turn(text='{"metres": 1}'))
            mended = await stub.Generate(ask(json_schema=schema))
            fleet["east"].then(Turn(text='{"metres": 1}', times=2))
            others = await stub.Generate(ask(json_schema=schema))
            for endpoint in fleet.endpoints.values():
                endpoint.then(Turn(text="about two metres", times=2))
            error = await error_of(stub.Generate(ask(json_schema=schema)))
        east, west = fleet["east"].seen, fleet["west"].seen
    assert json.loads(answer.text) == json.loads(mended.text) == {"metres": 2}
    assert (mended.model, [each.kind for each in mended.attempts]) == ("east", ["off_schema"])
    assert [each["role"] for each in east[2].body["messages"]] == ["user", "assistant", "user"]
    told = east[2].body["messages"][2]["content"]
    assert "at ['metres']: the value is less than the minimum of 2" in told
    # Another model is asked what was asked, and nothing more.
    assert (others.model, len(west[0].body["messages"])) == ("west", 1)
    assert (error.reason, error.metadata["attempts"]) == (Reason.ANSWER_OFF_SCHEMA, "4")
    assert (
        "off_schema: its answer does not keep the schema: it is not JSON"
        in (error.metadata["tried.4"])
    )


async def test_a_stream_off_the_schema_ends_with_an_error(tmp_path: Path) -> None:
    schema = message_pb.JsonSchema(schema=struct(SCHEMA))
    async with mesh(tmp_path, "east") as (fleet, stub):
        fleet["east"].then(Turn(text="about two metres"))
        error = await error_of(stream(stub, ask(json_schema=schema)))
        assert len(fleet["east"].seen) == 1
    assert error.reason is Reason.ANSWER_OFF_SCHEMA


async def test_a_bad_schema_is_refused_before_anything_is_called(tmp_path: Path) -> None:
    schema = message_pb.JsonSchema(schema=struct({"type": "objekt"}))
    async with mesh(tmp_path, "east") as (fleet, stub):
        error = await error_of(stub.Generate(ask(json_schema=schema)))
        assert not fleet["east"].seen
    assert (error.reason, error.metadata["field"]) == (Reason.FIELD_INVALID, "json_schema.schema")


async def test_sampling_settings_are_passed_on(tmp_path: Path) -> None:
    async with mesh(tmp_path, "east") as (fleet, stub):
        await stub.Generate(ask(temperature=0.5, top_p=0.9, stop=["END"], sampling_seed=7))
        body = fleet["east"].seen[0].body
    assert (body["temperature"], body["top_p"], body["stop"], body["seed"]) == (
        0.5,
        0.9,
        ["END"],
        7,
    )


async def test_citations_are_put_into_a_stream(tmp_path: Path) -> None:
    said = "It rose [2], says [1, 2]. `x[1]` stays, and [9] too.\n```\na[1]\n```\nThe end [1]"
    async with mesh(tmp_path, "east") as (fleet, stub):
        fleet["east"].then(Turn(text=said))
        fleet["east"].then(Turn(text=said))
        documents = [report("may"), report("june")]
        pieces = await stream(stub, ask(documents=documents))
        whole = await stub.Generate(ask(documents=documents))
    assert text_of(pieces) == whole.text
    assert whole.text.startswith("It rose [june], says [may][june]. `x[1]` stays, and [9] too.")
    assert [each.document_id for each in pieces[-1].end.citations] == ["june", "may"]


@pytest.mark.parametrize("fault", ["server_error", "disconnect", "garbage", "cut", "rate_limited"])
async def test_a_stream_that_has_not_begun_goes_to_the_next_model(
    tmp_path: Path, fault: str
) -> None:
    async with mesh(tmp_path, "east", "west") as (fleet, stub):
        fleet["east"].fail(fault, times=9, after_tokens=0)
        pieces = await stream(stub, ask())
    assert pieces[-1].end.model == "west"
    assert len(text_of(pieces).split()) == 16
    assert {each.model for each in pieces[-1].end.attempts} == {"east"}


@pytest.mark.parametrize("fault", ["cut", "garbage", "hang"])
async def test_a_stream_that_breaks_off_is_not_begun_again(tmp_path: Path, fault: str) -> None:
    timeout = 1 if fault == "hang" else 30
    async with mesh(tmp_path, "east", "west", timeout_seconds=timeout) as (fleet, stub):
        fleet["east"].fail(fault, after_tokens=3)
        call = stub.StreamGenerate(pb.StreamGenerateRequest(request=ask()))
        pieces: list[Any] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(call, pieces)
        assert not fleet["west"].seen
    error = from_rpc_error(caught.value)
    assert error is not None
    assert error.reason is Reason.PROVIDER_UNAVAILABLE
    assert len(text_of(pieces).split()) == 3


async def collect(call: Any, pieces: list[Any]) -> None:
    async for piece in call:
        pieces.append(piece)  # noqa: PERF401  (those before a break are wanted)


async def test_a_cancelled_stream_ends_the_providers_work(tmp_path: Path) -> None:
    slow = EndpointPlan(
        name="east", token_seconds=Constant(value=0.01), answer_tokens=Constant(value=10_000)
    )
    async with mesh(tmp_path, slow) as (fleet, stub):
        call = stub.StreamGenerate(pb.StreamGenerateRequest(request=ask()))
        async for _ in call:
            break
        call.cancel()
        await eventually(lambda: fleet["east"].account.totals.abandoned == 1)
        assert fleet["east"].account.totals.completion_tokens < 1_000


@pytest.mark.parametrize(
    ("fault", "status", "kind", "reason"),
    [
        ("rate_limited", None, "rate_limited", Reason.MODELS_EXHAUSTED),
        ("no_credit", 402, "no_credit", Reason.MODELS_EXHAUSTED),
        ("no_credit", 400, "no_credit", Reason.MODELS_EXHAUSTED),
        ("no_credit", 429, "no_credit", Reason.MODELS_EXHAUSTED),
        ("context_too_long", None, "context_too_long", Reason.PROVIDER_REJECTED),
        ("content_filtered", None, "content_filtered", Reason.PROVIDER_REJECTED),
        ("server_error", 500, "server", Reason.MODELS_EXHAUSTED),
        ("server_error", 529, "server", Reason.MODELS_EXHAUSTED),
        ("disconnect", None, "network", Reason.MODELS_EXHAUSTED),
        ("cut", None, "network", Reason.MODELS_EXHAUSTED),
        ("garbage", None, "nonsense", Reason.MODELS_EXHAUSTED),
        ("empty", None, "nonsense", Reason.MODELS_EXHAUSTED),
        ("unauthorized", None, "misconfigured", Reason.PROVIDER_REJECTED),
        ("bad_request", None, "bad_request", Reason.PROVIDER_REJECTED),
    ],
)
async def test_failures_are_told_apart(
    tmp_path: Path, fault: str, status: int | None, kind: str, reason: Reason
) -> None:
    async with mesh(tmp_path, "east", max_attempts=1) as (fleet, stub):
        fleet["east"].fail(fault, status=status)
        error = await error_of(stub.Generate(ask()))
    assert error.metadata["tried.1"].startswith(f"east@default: {kind}: ")
    assert (error.reason, error.metadata["attempts"]) == (reason, "1")


async def test_another_provider_may_answer_what_one_filters(tmp_path: Path) -> None:
    async with running_fleet("east", "west") as fleet:
        models = [
            simulated(fleet["east"], "first"),
            simulated(fleet["east"], "second"),
            simulated(fleet["west"], "third"),
        ]
        async with running_router(tmp_path, *models) as stub:
            fleet["east"].fail("content_filtered")
            answer = await stub.Generate(ask())
    assert answer.model == "third"
    assert len(fleet["east"].seen) == 1


async def test_a_window_that_is_too_small_leads_to_a_wider_one(tmp_path: Path) -> None:
    tight = EndpointPlan(name="east", models=(ModelPlan(name="small", context_window=2),))
    async with running_fleet(tight, "west") as fleet:
        models = [
            simulated(fleet["east"], "first", context_window=9_000),
            simulated(fleet["west"], "narrow", context_window=8_000),
            simulated(fleet["west"], "wide", context_window=10_000),
        ]
        async with running_router(tmp_path, *models) as stub:
            answer = await stub.Generate(ask())
    assert answer.model == "wide"


async def test_the_tier_is_exhausted_before_the_next_one(tmp_path: Path) -> None:
    async with running_fleet("one", "two", "three") as fleet:
        models = [
            simulated(fleet["one"], "a", tier="small"),
            simulated(fleet["two"], "b", tier="large"),
            simulated(fleet["three"], "c", tier="small"),
        ]
        async with running_router(tmp_path, *models) as stub:
            fleet["one"].fail("rate_limited", retry_after_seconds=60)
            answer = await stub.Generate(ask())
    assert answer.model == "c"


async def test_retry_after_is_waited_for_when_nothing_else_is_left(tmp_path: Path) -> None:
    async with mesh(tmp_path, "east", retry_longest_wait_seconds=60) as (fleet, stub):
        fleet["east"].fail("rate_limited", retry_after_seconds=0.6)
        answer = await stub.Generate(ask())
        (attempt,) = answer.attempts
        assert (attempt.kind, attempt.called) == ("rate_limited", True)
        fleet["east"].fail("rate_limited", retry_after_seconds=40)
        # It would be over too late for this call, which therefore does not wait at all.
        error = await error_of(stub.Generate(ask(), timeout=30))
    assert error.reason is Reason.MODELS_EXHAUSTED
    assert error.retry_after is not None


async def test_other_endpoints_of_a_model_are_tried_first(tmp_path: Path) -> None:
    async with running_fleet("east", "west") as fleet:
        model = simulated(fleet["east"])
        model["provider"] = both_endpoints(fleet)
        async with running_router(tmp_path, model) as stub:
            for name in ("east", "west"):
                fleet[name].fail("no_credit", times=1)
            errors = [await error_of(stub.Generate(ask()))]
            fleet["east"].reset()
            errors.append(await error_of(stub.Generate(ask())))
    # Both keys were tried once, and then left alone for long.
    assert errors[0].metadata["attempts"] == "2"
    assert errors[1].metadata["attempts"] == "0"
    assert errors[1].retry_after is not None
    assert errors[1].retry_after.total_seconds() > 500


async def test_a_slow_call_is_hedged_and_the_loser_cancelled(tmp_path: Path) -> None:
    # The quicker of two idle endpoints is taken first.
    slower = EndpointPlan(name="west", latency_seconds=Constant(value=0.05))
    async with running_fleet("east", slower) as fleet:
        model = simulated(fleet["east"])
        model["provider"] = both_endpoints(fleet)
        east, west = fleet["east"].account.totals, fleet["west"].account.totals
        async with running_router(tmp_path, model, hedge_share=0.5) as stub:
            for _ in range(30):
                await stub.Generate(ask())
            # On busy cores some of those were hedged as well.
            await eventually(lambda: east.in_flight + west.in_flight == 0)
            begun = (east.abandoned, west.abandoned)
            fleet["east"].then(Turn(latency_seconds=30))
            answered = west.completion_tokens
            answer = await stub.Generate(ask(), timeout=10)
            await eventually(lambda: east.abandoned == begun[0] + 1)
            assert west.completion_tokens == answered + answer.usage.output_tokens
            fleet["east"].fail("hang")
            fleet["west"].fail("hang")
            call = stub.Generate(ask())
            await eventually(lambda: east.in_flight + west.in_flight == 2)
            call.cancel()
            ended = (begun[0] + 2, begun[1] + 1)
            await eventually(lambda: (east.abandoned, west.abandoned) == ended)


def both_endpoints(fleet: Fleet) -> dict[str, Any]:
    return {
        "kind": "openai",
        "model": "small",
        "endpoints": [
            {"name": name, "base_url": each.base_url} for name, each in fleet.endpoints.items()
        ],
    }


async def test_scripted_calls_of_tools_without_a_name_are_nonsense(tmp_path: Path) -> None:
    async with mesh(tmp_path, "east", max_attempts=1) as (fleet, stub):
        fleet["east"].then(Turn(tool_calls=(ToolCallPlan(name=""),)))
        error = await error_of(stub.Generate(ask()))
    assert "calls a tool without a name" in error.message
