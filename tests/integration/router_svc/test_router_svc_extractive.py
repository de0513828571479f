"""Generate through model_svc's Extract."""

from datetime import timedelta
from pathlib import Path

import pytest

from stepwire.api.router.v1.message_pb2 import Citation
from stepwire.api.router.v1.requirements_pb2 import Requirements
from stepwire.errors import Reason, StepwireError
from tests.integration.router_svc.chat_endpoint import ChatEndpoint
from tests.integration.router_svc.extract_service import ExtractService, extract_service
from tests.integration.router_svc.running_router import (
    QUOTES,
    REPORT,
    ask,
    chat_model,
    error_of,
    report,
    running_router,
)

OTHER = "The mill was built in 1890. It stands by the river."


async def test_an_answer_quotes_and_cites(tmp_path: Path, extractor: ExtractService) -> None:
    documents = [report("report"), report("mill", OTHER)]
    async with running_router(tmp_path, QUOTES, model_target=extractor.target) as stub:
        answer = await stub.Generate(ask("Did the river rise?", documents=documents))
    assert answer.model == "quotes"
    assert answer.text == (
        '"The river rose by a metre in June." [report] "It stands by the river." [mill]'
    )
    assert list(answer.citations) == [
        Citation(document_id="report", quote="The river rose by a metre in June."),
        Citation(document_id="mill", quote="It stands by the river."),
    ]
    assert answer.usage.input_tokens == 42
    assert answer.usage.output_tokens > 0
    assert answer.usage.cost_micro_usd == 0
    (seen,) = extractor.seen
    assert seen.question == "Did the river rise?"
    assert [document.id for document in seen.documents] == ["report", "mill"]


async def test_a_plain_request_for_a_summary_has_no_question(
    tmp_path: Path, extractor: ExtractService
) -> None:
    async with running_router(tmp_path, QUOTES, model_target=extractor.target) as stub:
        await stub.Generate(ask("Summarise this report", documents=[report()]))
    assert extractor.seen[0].question == ""


async def test_a_long_message_is_shortened_to_its_own_sentences(
    tmp_path: Path, extractor: ExtractService
) -> None:
    async with running_router(tmp_path, QUOTES, model_target=extractor.target) as stub:
        answer = await stub.Generate(ask(f"{REPORT} {OTHER} {REPORT}"))
    assert answer.text == "The weather was dry in May. The river rose by a metre in June."
    # There is no document of the caller's to cite.
    assert not answer.citations


async def test_a_short_message_has_nothing_to_quote(
    tmp_path: Path, extractor: ExtractService
) -> None:
    async with running_router(tmp_path, QUOTES, model_target=extractor.target) as stub:
        error = await error_of(stub.Generate(ask("Hello")))
    assert error.reason is Reason.NO_ELIGIBLE_MODEL
    assert "no documents" in error.metadata["rejected.quotes"]
    assert not extractor.seen


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (40, '"The river rose by a metre in June." [report] "Nobody was hurt." [report]'),
        (16, '"The river rose by a metre in June." [report]'),
        (9, '"The river rose by" [report]'),
    ],
)
async def test_the_answer_keeps_to_its_limit(
    tmp_path: Path, extractor: ExtractService, limit: int, text: str
) -> None:
    async with running_router(tmp_path, QUOTES, model_target=extractor.target) as stub:
        request = ask("Did the river rise by a metre? Was nobody hurt?", max_output_tokens=limit)
        request.documents.append(report())
        answer = await stub.Generate(request)
    assert answer.text == text
    assert answer.usage.output_tokens <= limit
    assert all(f'"{citation.quote}"' in text for citation in answer.citations)


async def test_a_limit_below_one_word_is_refused(tmp_path: Path, extractor: ExtractService) -> None:
    async with running_router(tmp_path, QUOTES, model_target=extractor.target) as stub:
        error = await error_of(stub.Generate(ask(documents=[report()], max_output_tokens=1)))
    assert error.reason is Reason.PROVIDER_REJECTED
    assert error.metadata["model"] == "quotes"


async def test_a_model_service_that_is_away_is_unavailable(tmp_path: Path) -> None:
    async with running_router(tmp_path, QUOTES) as stub:
        error = await error_of(stub.Generate(ask(documents=[report()])))
    assert error.reason is Reason.MODELS_EXHAUSTED
    assert error.metadata["tried.1"].startswith("quotes: network: model_svc answered UNAVAILABLE")


async def test_a_busy_model_service_is_waited_for_as_it_asks(
    tmp_path: Path, extractor: ExtractService
) -> None:
    extractor.error = StepwireError(
        Reason.OVERLOADED, "too many calls", retry_after=timedelta(seconds=3)
    )
    async with running_router(
        tmp_path, QUOTES, model_target=extractor.target, retry_longest_wait_seconds=1
    ) as stub:
        error = await error_of(stub.Generate(ask(documents=[report()])))
    assert error.reason is Reason.MODELS_EXHAUSTED
    assert error.retry_after == timedelta(seconds=3)
    assert "too many calls" in error.metadata["tried.1"]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.MODEL_NOT_FOUND, "NOT_FOUND"),
        (Reason.FIELD_INVALID, "INVALID_ARGUMENT"),
    ],
)
async def test_what_model_service_refuses_goes_to_another_model(
    tmp_path: Path,
    extractor: ExtractService,
    endpoint: ChatEndpoint,
    reason: Reason,
    status: str,
) -> None:
    extractor.error = StepwireError(reason, "not this one")
    models = [QUOTES, chat_model("chat", endpoint.base_url)]
    async with running_router(tmp_path, *models, model_target=extractor.target) as stub:
        answer = await stub.Generate(ask(documents=[report()]))
        named = ask(documents=[report()], requirements=Requirements(model="quotes"))
        error = await error_of(stub.Generate(named))
    assert answer.model == "chat"
    assert error.reason is Reason.PROVIDER_REJECTED
    assert (error.metadata["model"], error.metadata["status"]) == ("quotes", status)


async def test_documents_larger_than_model_service_takes_go_to_another_model(
    tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    models = [QUOTES, chat_model("chat", endpoint.base_url)]
    documents = [report(text=REPORT * 50)]
    async with (
        extract_service(max_message_bytes=2048) as small,
        running_router(tmp_path, *models, model_target=small.target) as stub,
    ):
        answers = [await stub.Generate(ask(documents=documents)) for _ in range(4)]
        fitting = await stub.Generate(ask(documents=[report()]))
    assert [answer.model for answer in answers] == ["chat"] * 4
    # The model is well, and is not left to rest.
    assert fitting.model == "quotes"
