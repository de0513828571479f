"""Generate through an OpenAI-compatible endpoint."""

import json
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_USER,
    JsonSchema,
    Message,
    Usage,
)
from stepwire.api.router.v1.requirements_pb2 import Requirements
from stepwire.errors import Reason
from stepwire.testing.poll import eventually
from tests.integration.router_svc.chat_endpoint import ChatEndpoint, Reply, Silence, chat, refusal
from tests.integration.router_svc.running_router import (
    DEAR,
    KEY,
    ask,
    chat_model,
    error_of,
    report,
    running_router,
)


async def test_an_answer_with_usage_and_cost(tmp_path: Path, endpoint: ChatEndpoint) -> None:
    async with running_router(tmp_path, chat_model("small", endpoint.base_url)) as stub:
        answer = await stub.Generate(ask(max_output_tokens=50, temperature=0.0))
    assert answer.text == "It rose by a metre."
    assert answer.model == answer.decision.model == "small"
    # 100 tokens at 0.5 and 20 at 2.5 micro-dollars each.
    assert answer.usage == Usage(input_tokens=100, output_tokens=20, cost_micro_usd=100)
    assert not answer.citations
    (seen,) = endpoint.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.body == {
        "model": "their-small",
        "messages": [{"role": "user", "content": "How much did the river rise?"}],
        "max_tokens": 50,
        "temperature": 0.0,
    }


async def test_the_catalogue_bounds_the_answer(tmp_path: Path, endpoint: ChatEndpoint) -> None:
    model = chat_model("small", endpoint.base_url)
    model["provider"]["token_limit_field"] = "max_completion_tokens"
    async with running_router(tmp_path, model) as stub:
        await stub.Generate(ask())
        await stub.Generate(ask(max_output_tokens=9_999))
    for seen in endpoint.seen:
        assert seen.body["max_completion_tokens"] == 500
        assert "max_tokens" not in seen.body
        assert "temperature" not in seen.body


async def test_documents_are_shown_as_sources_and_cited(
    tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.otherwise = chat("A metre [2]. It was dry [1, 2]. Unknown [9].")
    documents = [report("may"), report("june/2")]
    async with running_router(tmp_path, chat_model("small", endpoint.base_url)) as stub:
        answer = await stub.Generate(ask(documents=documents))
    assert answer.text == "A metre [june/2]. It was dry [may][june/2]. Unknown [9]."
    assert [citation.document_id for citation in answer.citations] == ["june/2", "may"]
    system, user = endpoint.seen[0].body["messages"]
    assert system["role"] == "system"
    assert f"[2]\n{documents[1].text}" in system["content"]
    assert user["role"] == "user"


async def test_the_whole_conversation_is_sent(tmp_path: Path, endpoint: ChatEndpoint) -> None:
    request = pb.GenerateRequest(
        messages=[
            Message(role=ROLE_SYSTEM, content="Be brief."),
            Message(role=ROLE_USER, content="Hello"),
            Message(role=ROLE_ASSISTANT, content="Hi"),
            Message(content="And?"),
        ]
    )
    async with running_router(tmp_path, chat_model("small", endpoint.base_url)) as stub:
        await stub.Generate(request)
    assert [(each["role"], each["content"]) for each in endpoint.seen[0].body["messages"]] == [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "And?"),
    ]


async def test_usage_that_is_not_reported_is_estimated_and_said_to_be(
    tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.otherwise = Reply({"choices": [{"message": {"content": "A metre."}}]})
    async with running_router(tmp_path, chat_model("small", endpoint.base_url)) as stub:
        answer = await stub.Generate(ask())
    assert answer.usage.input_tokens == answer.decision.input_tokens > 0
    assert answer.usage.output_tokens > 0
    assert answer.usage.cost_micro_usd > 0
    assert answer.usage.estimated


# Tests wait for no provider.
IMPATIENT: dict[str, Any] = {"retry_longest_wait_seconds": 0.3}
MALFORMED = [
    Reply(b"<html>oops</html>", content_type="text/html"),
    Reply(b'{"choices": ['),
    Reply({"choices": []}),
    Reply({"choices": [{"message": {"content": 7}}]}),
    chat("Here.", prompt_tokens=-1),
    Reply([1, 2]),
]
UNAVAILABLE: list[tuple[Reply | Silence, str]] = [
    *((refusal(status), f"the endpoint answered {status}") for status in (408, 409, 429, 500, 503)),
    *((reply, "the answer is not a chat completion") for reply in MALFORMED),
    (Reply({"choices": [{"message": {}}]}), "the answer is empty"),
    (Reply(chat("x").body, cut_after=10), "the connection to the endpoint failed"),
    (Silence(), "no answer within 1 s"),
]


@pytest.mark.parametrize(("answer", "told"), UNAVAILABLE)
async def test_a_failure_that_may_pass_goes_to_the_next_model(
    tmp_path: Path,
    endpoint: ChatEndpoint,
    second_endpoint: ChatEndpoint,
    answer: Reply | Silence,
    told: str,
) -> None:
    endpoint.otherwise = answer
    # None of the others is to be taken for silence on a busy machine.
    timeout = 1 if isinstance(answer, Silence) else 30
    first = chat_model("first", endpoint.base_url, timeout_seconds=timeout)
    second = chat_model("second", second_endpoint.base_url)
    async with running_router(tmp_path, first, second, **IMPATIENT) as stub:
        got = await stub.Generate(ask())
        alone = await error_of(stub.Generate(ask(requirements=Requirements(model="first"))))
    assert got.model == got.decision.model == "second"
    assert [each.model for each in got.decision.candidates] == ["second", "first"]
    assert got.decision.candidates[1].rejected.startswith(f"failed: {told}")
    assert got.decision.explanation.endswith("; second answered")
    assert alone.reason is Reason.MODELS_EXHAUSTED
    assert told in alone.metadata["tried.1"]
    # Once more where that may help; the third failure in a row opens the breaker.
    assert len(endpoint.seen) == (2 if isinstance(answer, Silence) else 3)
    assert {attempt.model for attempt in got.attempts} == {"first"}


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_misconfigured_model_is_passed_over_and_named_when_alone(
    tmp_path: Path, endpoint: ChatEndpoint, second_endpoint: ChatEndpoint, status: int
) -> None:
    endpoint.otherwise = refusal(status, f"your key {KEY} or the model is wrong")
    first = chat_model("first", endpoint.base_url)
    second = chat_model("second", second_endpoint.base_url)
    async with running_router(tmp_path, first, second) as stub:
        assert (await stub.Generate(ask())).model == "second"
        error = await error_of(stub.Generate(ask(requirements=Requirements(model="first"))))
    assert error.reason is Reason.PROVIDER_REJECTED
    assert (error.metadata["model"], error.metadata["provider"]) == ("first", "openai")
    assert error.metadata["status"] == str(status)
    assert KEY not in error.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "slow down"}, "rate_limited"),
        ({"code": "insufficient_quota"}, "no_credit"),
        ({"code": "9" * 5_000}, "server"),
        ("it broke", "server"),
        ({"message": "the maximum context length is 9"}, "context_too_long"),
        ("you have no credit", "no_credit"),
    ],
)
async def test_an_error_in_an_answer_that_is_none_is_told_apart(
    tmp_path: Path, endpoint: ChatEndpoint, second_endpoint: ChatEndpoint, error: Any, kind: str
) -> None:
    endpoint.otherwise = Reply({"error": error})
    first = chat_model("first", endpoint.base_url)
    second = chat_model("second", second_endpoint.base_url)
    async with running_router(tmp_path, first, second) as stub:
        answer = await stub.Generate(ask())
    assert (answer.model, answer.attempts[0].kind) == ("second", kind)


BILLING = (
    "Rate limit reached for requests per min. Visit https://example.org/account/billing for more."
)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(429, BILLING, code="rate_limit_exceeded"), "rate_limited"),
        (Reply([{"error": {"message": "maximum context length"}}], status=400), "context_too_long"),
        # The words are cut off; the status is not.
        (replace(refusal(429, retry_after="9"), cut_after=3), "rate_limited"),
        (replace(refusal(404), cut_after=0), "misconfigured"),
    ],
)
async def test_a_refusal_is_told_apart_by_what_can_be_read_of_it(
    tmp_path: Path, endpoint: ChatEndpoint, second_endpoint: ChatEndpoint, answer: Reply, kind: str
) -> None:
    endpoint.otherwise = answer
    first = chat_model("first", endpoint.base_url)
    second = chat_model("second", second_endpoint.base_url)
    async with running_router(tmp_path, first, second, retry_patience_seconds=0) as stub:
        got = await stub.Generate(ask())
    assert (got.model, [attempt.kind for attempt in got.attempts]) == ("second", [kind])


@pytest.mark.parametrize("status", [204, 301, 307])
async def test_what_is_no_refusal_of_the_request_is_tried_elsewhere(
    tmp_path: Path, endpoint: ChatEndpoint, second_endpoint: ChatEndpoint, status: int
) -> None:
    endpoint.otherwise = Reply(b"", status=status, headers={"location": second_endpoint.base_url})
    first = chat_model("first", endpoint.base_url)
    second = chat_model("second", second_endpoint.base_url)
    async with running_router(tmp_path, first, second) as stub:
        assert (await stub.Generate(ask())).model == "second"
    assert len(second_endpoint.seen) == 1


@pytest.mark.parametrize("status", [400, 422])
async def test_a_bad_request_is_not_tried_elsewhere(
    tmp_path: Path, endpoint: ChatEndpoint, second_endpoint: ChatEndpoint, status: int
) -> None:
    endpoint.otherwise = refusal(status, "temperature is not supported")
    first = chat_model("first", endpoint.base_url)
    second = chat_model("second", second_endpoint.base_url)
    async with running_router(tmp_path, first, second) as stub:
        error = await error_of(stub.Generate(ask()))
    assert error.reason is Reason.PROVIDER_REJECTED
    assert error.metadata["status"] == str(status)
    assert "temperature is not supported" in error.message
    assert not second_endpoint.seen


@pytest.mark.parametrize(
    "answer",
    [refusal(400, code="context_length_exceeded"), refusal(413), chat(" "), chat(None)],
)
async def test_a_request_that_does_not_fit_one_model_is_tried_with_another(
    tmp_path: Path, endpoint: ChatEndpoint, second_endpoint: ChatEndpoint, answer: Reply
) -> None:
    endpoint.otherwise = answer
    first = chat_model("first", endpoint.base_url)
    second = chat_model("second", second_endpoint.base_url)
    async with running_router(tmp_path, first, second) as stub:
        assert [(await stub.Generate(ask())).model for _ in range(5)] == ["second"] * 5
    # It is the request that does not fit: the model is well and is not left to rest.
    assert len(endpoint.seen) == 5


async def test_a_correction_is_not_lost_with_the_try_that_carried_it(
    tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    schema = JsonSchema()
    schema.schema.update({"type": "object", "required": ["metres"]})
    endpoint.script.extend([chat("{}"), refusal(429)])
    endpoint.otherwise = chat('{"metres": 2}')
    small = chat_model("small", endpoint.base_url, capabilities=["json"])
    async with running_router(tmp_path, small) as stub:
        answer = await stub.Generate(ask(json_schema=schema))
    assert [each.kind for each in answer.attempts] == ["off_schema", "rate_limited"]
    assert [len(each.body["messages"]) for each in endpoint.seen] == [1, 3, 3]


async def test_a_model_that_declines_has_answered(tmp_path: Path, endpoint: ChatEndpoint) -> None:
    message = {"content": None, "refusal": "I would rather not."}
    endpoint.otherwise = Reply({"choices": [{"message": message}]})
    async with running_router(tmp_path, chat_model("small", endpoint.base_url)) as stub:
        assert (await stub.Generate(ask())).text == "I would rather not."


async def test_all_failures_are_named_with_the_shortest_wait(
    tmp_path: Path, endpoint: ChatEndpoint, second_endpoint: ChatEndpoint
) -> None:
    endpoint.otherwise = refusal(429, "slow down", retry_after="30")
    second_endpoint.otherwise = refusal(503, "busy", retry_after="20")
    models = [
        chat_model("first", endpoint.base_url),
        chat_model("second", second_endpoint.base_url),
        chat_model("third", "http://127.0.0.1:1/v1"),
    ]
    async with running_router(tmp_path, *models, **IMPATIENT) as stub:
        error = await error_of(stub.Generate(ask()))
        again = await error_of(stub.Generate(ask()))
    assert error.reason is Reason.MODELS_EXHAUSTED
    assert error.retry_after == timedelta(seconds=20)
    refused = "network: the connection to the endpoint failed (connection refused)"
    assert error.metadata.pop("tried.3").startswith(f"third@default: {refused}")
    assert error.metadata.pop("tried.4").startswith(f"third@default: {refused}")
    assert error.metadata == {
        "attempts": "4",
        "tried.1": "first@default: rate_limited: the endpoint answered 429: slow down",
        "tried.2": "second@default: server: the endpoint answered 503: busy",
    }
    # Those that named a time are left alone for it, and come last.
    assert any(
        told.startswith("first: rate_limited: left to rest for another ")
        for told in again.metadata.values()
    )
    assert again.retry_after is not None
    assert timedelta(0) < again.retry_after <= timedelta(seconds=20)
    assert len(endpoint.seen) == len(second_endpoint.seen) == 1


async def test_a_model_that_rests_is_chosen_last(
    tmp_path: Path, endpoint: ChatEndpoint, second_endpoint: ChatEndpoint
) -> None:
    endpoint.script.append(refusal(429, retry_after="60"))
    first = chat_model("first", endpoint.base_url)
    second = chat_model("second", second_endpoint.base_url, prices=[DEAR])
    async with running_router(tmp_path, first, second) as stub:
        before = (await stub.Decide(pb.DecideRequest(request=ask()))).decision
        await stub.Generate(ask())
        after = (await stub.Decide(pb.DecideRequest(request=ask()))).decision
    assert [each.model for each in before.candidates] == ["first", "second"]
    assert [each.model for each in after.candidates] == ["second", "first"]
    assert "first being left to rest" in after.explanation


async def test_the_deadline_of_the_call_bounds_every_try(
    tmp_path: Path, endpoint: ChatEndpoint, second_endpoint: ChatEndpoint
) -> None:
    endpoint.otherwise = Silence()
    first = chat_model("first", endpoint.base_url, timeout_seconds=30)
    second = chat_model("second", second_endpoint.base_url)
    async with running_router(tmp_path, first, second, default_deadline_seconds=0.3) as stub:
        error = await error_of(stub.Generate(ask()))
        # The provider's connection is given up with the call.
        await eventually(lambda: endpoint.waiting == 0)
        # A slow caller is no reason to leave the model alone.
        endpoint.otherwise = chat("Here.")
        assert (await stub.Generate(ask(), timeout=30)).model == "first"
    assert error.reason is Reason.DEADLINE_EXCEEDED
    assert not second_endpoint.seen


async def test_a_cancelled_call_gives_up_the_try(tmp_path: Path, endpoint: ChatEndpoint) -> None:
    endpoint.otherwise = Silence()
    model = chat_model("only", endpoint.base_url, limits={"concurrency": 1})
    async with running_router(tmp_path, model) as stub:
        call = stub.Generate(ask())
        await eventually(lambda: endpoint.waiting == 1)
        call.cancel()
        await eventually(lambda: endpoint.waiting == 0)
        endpoint.otherwise = chat("Here.")
        assert (await stub.Generate(ask())).text == "Here."


async def test_calls_in_flight_are_limited_per_model(
    tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.script.extend([Silence(), Silence()])
    model = chat_model("only", endpoint.base_url, limits={"concurrency": 2})
    async with running_router(tmp_path, model) as stub:
        calls = [stub.Generate(ask()), stub.Generate(ask())]
        await eventually(lambda: endpoint.waiting == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(ask(), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(endpoint.seen) == 2
        calls[0].cancel()
        assert (await stub.Generate(ask())).model == "only"
        calls[1].cancel()


async def test_the_key_and_the_texts_stay_out_of_the_log(
    tmp_path: Path, endpoint: ChatEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.script.extend([refusal(401, f"bad key {KEY}"), *MALFORMED])
    with caplog.at_level(logging.DEBUG):
        small = chat_model("small", endpoint.base_url)
        async with running_router(tmp_path, small, **IMPATIENT) as stub:
            for _ in range(3):
                await error_of(stub.Generate(ask("a question of my own")))
    logged = json.dumps([vars(record) for record in caplog.records], default=str)
    assert "a model did not answer" in logged
    assert KEY not in logged
    assert "question of my own" not in logged


async def test_an_organisation_in_the_environment_is_not_sent(
    tmp_path: Path, endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-somebody")
    monkeypatch.setenv("OPENAI_API_KEY", "another key")
    model: dict[str, Any] = chat_model("small", endpoint.base_url)
    del model["provider"]["api_key_env"]
    async with running_router(tmp_path, model) as stub:
        await stub.Generate(ask())
    headers = json.dumps(dict(endpoint.seen[0].headers))
    assert "somebody" not in headers
    assert "another key" not in headers
