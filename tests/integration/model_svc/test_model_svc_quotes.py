import grpc
import pytest

from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub
from stepwire.errors import Reason
from tests.integration.model_svc.refusals import refusal

DOCUMENTS = [
    pb.SourceDocument(
        id="retries",
        text="# Retries\n\nA failed step is tried again after\na delay that doubles each time. "
        "An error that\ncannot pass fails the task at once.\n\n    retry = Backoff(2)\n",
    ),
    pb.SourceDocument(
        id="queues",
        text="Steps of a kind wait in a queue. Each queue has its own workers. "
        "The canteen serves soup on Mondays.",
    ),
]


async def test_the_sentence_that_answers_is_quoted_first(
    model_stub: ModelServiceAsyncStub,
) -> None:
    response = await model_stub.Extract(
        pb.ExtractRequest(question="When is a step run once more?", documents=DOCUMENTS)
    )
    assert response.model == "all-minilm-l6-v2"
    assert len(response.quotes) == 2
    best = response.quotes[0]
    assert best.document_id == "retries"
    assert best.text == "A failed step is tried again after a delay that doubles each time."
    assert 0.3 < best.score <= 1
    assert response.tokens > 50


async def test_a_later_document_is_quoted_if_it_answers(model_stub: ModelServiceAsyncStub) -> None:
    response = await model_stub.Extract(
        pb.ExtractRequest(question="What is there to eat?", documents=DOCUMENTS, max_sentences=1)
    )
    assert [quote.text for quote in response.quotes] == ["The canteen serves soup on Mondays."]


async def test_without_a_question_the_documents_are_summed_up(
    model_stub: ModelServiceAsyncStub,
) -> None:
    response = await model_stub.Extract(pb.ExtractRequest(documents=DOCUMENTS, max_sentences=4))
    texts = [quote.text for quote in response.quotes]
    assert len(texts) == 4
    assert "The canteen serves soup on Mondays." not in texts


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ExtractRequest(question="?"), "documents"),
        (pb.ExtractRequest(documents=[pb.SourceDocument(text="x")]), "documents[0].id"),
        (pb.ExtractRequest(documents=[pb.SourceDocument(id="x")]), "documents[0].text"),
        (pb.ExtractRequest(documents=DOCUMENTS, max_sentences=21), "max_sentences"),
    ],
)
async def test_requests_outside_the_limits_are_refused(
    model_stub: ModelServiceAsyncStub, request_: pb.ExtractRequest, field: str
) -> None:
    error = await refusal(model_stub.Extract(request_), grpc.StatusCode.INVALID_ARGUMENT)
    assert error.reason is Reason.FIELD_INVALID
    assert [fault.field for fault in error.faults] == [field]


async def test_a_model_that_is_not_served_is_not_found(model_stub: ModelServiceAsyncStub) -> None:
    call = model_stub.Extract(pb.ExtractRequest(model="gone", documents=DOCUMENTS))
    error = await refusal(call, grpc.StatusCode.NOT_FOUND)
    assert error.reason is Reason.MODEL_NOT_FOUND
