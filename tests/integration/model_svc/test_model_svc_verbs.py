import asyncio

import grpc
import numpy as np
import pytest

from model_svc.tensors import Vectors
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1 import text_pb2
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub
from stepwire.errors import Reason
from tests.integration.model_svc.refusals import refusal

DOCUMENTS = [
    pb.SourceDocument(id="soup", text="The canteen serves soup on Mondays."),
    pb.SourceDocument(
        id="retries",
        text="A failed step is tried again after a delay. The delay doubles each time.",
    ),
]


async def embedded(stub: ModelServiceAsyncStub, *texts: str, **options: object) -> Vectors:
    response = await stub.Embed(pb.EmbedRequest(texts=texts, **options))  # type: ignore[arg-type]
    return np.frombuffer(response.vectors, "<f4").reshape(-1, response.dimension)


async def test_tokens_say_where_they_stand_in_the_text(model_stub: ModelServiceAsyncStub) -> None:
    text = "Zürich's unbreakable 東京"
    response = await model_stub.Tokenize(pb.TokenizeRequest(texts=[text, ""]))
    assert (response.model, response.max_tokens) == ("all-minilm-l6-v2", 256)
    first, empty = response.texts
    assert list(empty.tokens) == ["[CLS]", "[SEP]"]
    assert list(empty.ids) == [101, 102]
    assert (first.tokens[0], first.tokens[-1]) == ("[CLS]", "[SEP]")
    spans = [text[start:end] for start, end in zip(first.starts, first.ends, strict=True)]
    assert "".join(spans) == text.replace(" ", "")
    assert (spans[0], spans[1]) == ("", "Zürich")
    bare = await model_stub.Tokenize(pb.TokenizeRequest(texts=[text], without_special_tokens=True))
    assert list(bare.texts[0].ids) == list(first.ids)[1:-1]


async def test_nothing_is_cut_when_tokens_are_asked_for(model_stub: ModelServiceAsyncStub) -> None:
    response = await model_stub.Tokenize(pb.TokenizeRequest(texts=["durable " * 12_000]))
    assert len(response.texts[0].ids) == 12_002


async def test_vectors_can_be_had_in_other_ways(model_stub: ModelServiceAsyncStub) -> None:
    (own,) = await embedded(model_stub, "A task survives.")
    (raw,) = await embedded(model_stub, "A task survives.", normalize=False)
    assert np.linalg.norm(raw) != pytest.approx(1, abs=0.01)
    assert np.abs(raw / np.linalg.norm(raw) - own).max() < 1e-6
    (first,) = await embedded(model_stub, "A task survives.", pooling=text_pb2.POOLING_FIRST)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert np.abs(first - own).max() > 0.01
    (short,) = await embedded(model_stub, "A task survives.", dimensions=64)
    assert np.abs(short - own[:64] / np.linalg.norm(own[:64])).max() < 1e-6
    (prefixed,) = await embedded(model_stub, "survives.", prefix="A task ")
    assert np.abs(prefixed - own).max() < 1e-6


async def test_a_call_tells_how_it_was_carried_out(model_stub: ModelServiceAsyncStub) -> None:
    run = (await model_stub.Embed(pb.EmbedRequest(texts=["a", "b"]))).run
    assert run.compute_us > 0
    assert run.tokenize_us > 0
    assert run.batch_texts == 2
    assert (run.device, run.fallback, run.cached) == ("cpu", "", False)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.EmbedRequest(texts=["x " * 300], refuse_longer=True), Reason.MODEL_INPUT_INVALID),
        (pb.EmbedRequest(texts=["x"], dimensions=385), Reason.MODEL_INPUT_INVALID),
        (pb.EmbedRequest(texts=["x"], dimensions=-1), Reason.FIELD_INVALID),
        (pb.EmbedRequest(texts=["x"], priority=10), Reason.MODEL_INPUT_INVALID),
        (pb.EmbedRequest(texts=["x " * 1_000_000]), Reason.FIELD_INVALID),
    ],
)
async def test_what_the_model_cannot_do_is_refused(
    model_stub: ModelServiceAsyncStub, request_: pb.EmbedRequest, reason: Reason
) -> None:
    error = await refusal(model_stub.Embed(request_), grpc.StatusCode.INVALID_ARGUMENT)
    assert error.reason is reason


async def test_text_that_is_no_utf8_is_refused(channel: grpc.aio.Channel) -> None:
    # Field 2, two bytes, which no client of ours would send.
    call = channel.unary_unary("/stepwire.api.model.v1.ModelService/Embed")(b"\x12\x02\xff\xfe")
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert error.reason is Reason.FIELD_INVALID
    assert "UTF-8" in error.message


async def test_scores_tell_paraphrases_from_the_rest(model_stub: ModelServiceAsyncStub) -> None:
    response = await model_stub.Score(
        pb.ScoreRequest(
            text="A task survives the death of its worker.",
            candidates=["When a worker dies, its task lives on.", "Two eggs and some butter."],
        )
    )
    near, far = response.scores
    assert near > 0.5
    assert far < 0.2
    assert response.tokens > 20


async def test_texts_are_classified_by_labels_of_the_request(
    model_stub: ModelServiceAsyncStub,
) -> None:
    response = await model_stub.Classify(
        pb.ClassifyRequest(
            texts=["The striker scored twice.", "Stir the butter into the flour."],
            labels=[
                text_pb2.Label(name="sport", texts=["a football match", "athletes compete"]),
                text_pb2.Label(name="cooking"),
                text_pb2.Label(name="politics"),
            ],
            top=2,
        )
    )
    best = [classification.labels[0].label for classification in response.classifications]
    assert best == ["sport", "cooking"]
    for classification in response.classifications:
        first, second = classification.labels
        assert first.score > second.score
        assert 1 > first.share > 0.5 > second.share > 0


async def test_documents_are_ranked_by_what_stands_anywhere_in_them(
    model_stub: ModelServiceAsyncStub,
) -> None:
    filler = "The canteen serves soup on Mondays, and bread with it. " * 40
    buried = pb.SourceDocument(id="buried", text=f"{filler}{DOCUMENTS[1].text} {filler}")
    response = await model_stub.Rerank(
        pb.RerankRequest(query="What happens to a failed step?", documents=[DOCUMENTS[0], buried])
    )
    assert [ranked.document_id for ranked in response.documents] == ["buried", "soup"]
    assert [ranked.index for ranked in response.documents] == [1, 0]
    assert response.documents[0].score > response.documents[1].score + 0.1
    assert response.tokens > 500


async def test_an_answer_is_made_of_quotes(model_stub: ModelServiceAsyncStub) -> None:
    request = pb.AnswerRequest(
        question="What happens to a failed step?", documents=DOCUMENTS, max_sentences=1
    )
    response = await model_stub.Answer(request)
    assert response.answer == "A failed step is tried again after a delay."
    assert [quote.document_id for quote in response.quotes] == ["retries"]
    assert response.run.device == "cpu"
    request.min_score = 0.99
    nothing = await model_stub.Answer(request)
    assert (nothing.answer, list(nothing.quotes)) == ("", [])


async def test_a_summary_keeps_the_order_of_the_documents(
    model_stub: ModelServiceAsyncStub,
) -> None:
    response = await model_stub.Summarize(pb.SummarizeRequest(documents=DOCUMENTS, max_sentences=3))
    assert response.summary == " ".join(document.text for document in DOCUMENTS)
    assert len(response.quotes) == 3


async def test_verbs_share_batches_under_load(model_stub: ModelServiceAsyncStub) -> None:
    calls = [
        model_stub.Embed(pb.EmbedRequest(texts=["a short text"])),
        *(model_stub.Embed(pb.EmbedRequest(texts=[f"text {number}"])) for number in range(30)),
    ]
    responses = await asyncio.gather(*calls)
    assert max(response.run.batch_texts for response in responses) > 1
