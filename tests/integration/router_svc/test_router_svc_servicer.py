"""Decide and ListModels over gRPC, refusals, telemetry, and the start."""

import os
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from router_svc.app import build
from router_svc.settings import RouterSettings
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.catalogue_pb2 import CatalogueModel, ModelLimits, Price
from stepwire.api.router.v1.message_pb2 import ROLE_ASSISTANT, Message
from stepwire.api.router.v1.requirements_pb2 import TIER_BALANCED, Requirements
from stepwire.errors import Reason
from stepwire.lifecycle import StartError
from tests.integration.router_svc.chat_endpoint import ChatEndpoint
from tests.integration.router_svc.running_router import (
    DEAR,
    QUOTES,
    ask,
    chat_model,
    error_of,
    report,
    running_router,
)

NOWHERE = "http://127.0.0.1:1/v1"


async def test_decide_explains_and_calls_nobody(tmp_path: Path, endpoint: ChatEndpoint) -> None:
    models = [
        chat_model("dear", endpoint.base_url, prices=[DEAR]),
        chat_model("tiny", endpoint.base_url, context_window=50, max_output_tokens=40),
        QUOTES,
    ]
    async with running_router(tmp_path, *models) as stub:
        response = await stub.Decide(
            pb.DecideRequest(request=ask("Compare them.", documents=[report()]))
        )
    decision = response.decision
    assert decision.model == "dear"
    assert [each.model for each in decision.candidates] == ["dear", "quotes", "tiny"]
    assert [bool(each.rejected) for each in decision.candidates] == [False, False, True]
    assert "because it asks for reasoning" in decision.explanation
    assert decision.input_tokens > 0
    dear = decision.candidates[0]
    assert dear.quality == 0.8
    assert dear.cost_micro_usd == decision.input_tokens * 50 + 1000
    assert not endpoint.seen


async def test_the_catalogue_is_listed_without_addresses(tmp_path: Path) -> None:
    async with running_router(tmp_path, chat_model("small", NOWHERE), QUOTES) as stub:
        listed = await stub.ListModels(pb.ListModelsRequest())
    small, quotes = listed.models
    assert listed.catalogue_version
    assert not listed.refused
    assert small == CatalogueModel(
        name="small",
        provider="openai",
        context_window=8_000,
        quality=0.8,
        input_price_micro_usd=500_000,
        output_price_micro_usd=2_500_000,
        tier=TIER_BALANCED,
        max_output_tokens=500,
        prices=[
            Price(
                input_micro_usd=500_000,
                cached_input_micro_usd=500_000,
                output_micro_usd=2_500_000,
                reasoning_micro_usd=2_500_000,
            )
        ],
        limits=ModelLimits(),
        tokenizer="estimate",
        endpoints=["default"],
    )
    assert (quotes.name, quotes.provider, list(quotes.endpoints)) == ("quotes", "extractive", [])
    assert NOWHERE not in str(listed)


async def test_faulty_fields_are_named(tmp_path: Path) -> None:
    request = pb.GenerateRequest(
        messages=[
            Message(content="x"),
            Message(role=ROLE_ASSISTANT, content="y"),
        ],
        documents=[report(), report()],
        temperature=3,
    )
    async with running_router(tmp_path, QUOTES) as stub:
        generated = await error_of(stub.Generate(request))
        decided = await error_of(stub.Decide(pb.DecideRequest(request=request)))
    fields = ["messages[1].role", "documents[1].id", "temperature"]
    assert generated.reason is decided.reason is Reason.FIELD_INVALID
    assert [fault.field for fault in generated.faults] == fields
    assert [fault.field for fault in decided.faults] == [f"request.{field}" for field in fields]


async def test_refusals_of_the_policy_have_their_codes(tmp_path: Path) -> None:
    async with running_router(tmp_path, QUOTES) as stub:
        unknown = ask(requirements=Requirements(model="huge"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Decide(pb.DecideRequest(request=unknown))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(ask())
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        error = await error_of(stub.Generate(unknown))
    assert error.reason is Reason.MODEL_NOT_FOUND
    assert error.metadata == {"model": "huge"}


KEYLESS = """
models:
  - name: a
    provider: {kind: openai, base_url: "http://127.0.0.1:1/v1", model: m, api_key_env: UNSET_KEY}
    context_window: 10
    max_output_tokens: 1
    quality: 1
    prices: [{input_usd_per_million_tokens: 0, output_usd_per_million_tokens: 0}]
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: 3", "models: Input should be a valid tuple"),
        (KEYLESS, "models[0] (a): provider.api_key_env: the environment variable UNSET_KEY is"),
    ],
)
async def test_a_faulty_catalogue_refuses_the_start(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    settings = RouterSettings(port=0, http_port=0, catalogue_path=path)
    async with AsyncExitStack() as stack:
        with pytest.raises(StartError) as caught:
            await build(stack, settings=settings, environment=os.environ)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)
