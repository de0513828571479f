import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
from tokenizers import Tokenizer

from model_svc.tensors import Vectors
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub
from stepwire.errors import Reason
from tests.integration.model_svc.reference import ReferenceEncoder
from tests.integration.model_svc.refusals import refusal

TEXTS = [
    "A task survives the death of its worker.",
    "When a worker dies, its task lives on.",
    "The recipe needs two eggs and a little butter.",
    "Zürich, naïve café: 東京 🙂 ÀÉÎ",
    "x",
    "",
    "Postgres is the record; RabbitMQ only wakes workers up. " * 6,
]
MAX_TOKENS = 256


async def embed(stub: ModelServiceAsyncStub, *texts: str) -> Vectors:
    response = await stub.Embed(pb.EmbedRequest(texts=texts))
    return vectors_of(response)


def vectors_of(response: pb.EmbedResponse) -> Vectors:
    return np.frombuffer(response.vectors, dtype="<f4").reshape(-1, response.dimension)


@pytest.fixture(scope="module")
def tokenizer(weights: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(weights / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.fixture(scope="module")
def reference(weights: Path) -> ReferenceEncoder:
    return ReferenceEncoder(weights)


async def test_vectors_are_those_of_the_reference(
    model_stub: ModelServiceAsyncStub, reference: ReferenceEncoder, tokenizer: Tokenizer
) -> None:
    response = await model_stub.Embed(pb.EmbedRequest(texts=TEXTS))
    assert response.dimension == 384
    assert response.model == "all-minilm-l6-v2"
    assert response.truncated == 0
    tokens = [tokenizer.encode(text).ids for text in TEXTS]
    assert response.tokens == sum(map(len, tokens))
    for vector, ids in zip(vectors_of(response), tokens, strict=True):
        assert np.abs(vector - reference.encode(ids)).max() < 1e-4
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


async def test_a_long_text_is_cut_to_the_model_s_input(
    model_stub: ModelServiceAsyncStub, reference: ReferenceEncoder, tokenizer: Tokenizer
) -> None:
    word, space = "durable ", " " * 9_000
    long = word * 300
    texts = [long, word * 254, space + long, space + "durable", "durable" * 2_000]
    response = await model_stub.Embed(pb.EmbedRequest(texts=texts))
    # The last is one word of 14,000 letters, which the tokenizer reads as "unknown".
    lengths = [256, 256, 256, 3, 3]
    assert response.tokens == sum(lengths)
    assert response.truncated == 2
    vectors = vectors_of(response)
    ids = tokenizer.encode(long).ids
    expected = reference.encode([*ids[: MAX_TOKENS - 1], ids[-1]])
    assert np.abs(vectors[0] - expected).max() < 1e-4
    assert np.abs(vectors[1] - vectors[0]).max() < 1e-5
    assert np.abs(vectors[2] - vectors[0]).max() < 1e-5


async def test_a_text_s_vector_does_not_depend_on_its_company(
    model_stub: ModelServiceAsyncStub,
) -> None:
    together = await embed(model_stub, *TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        alone = await embed(model_stub, text)
        assert np.abs(alone[0] - vector).max() < 1e-5


async def test_concurrent_calls_get_their_own_vectors(model_stub: ModelServiceAsyncStub) -> None:
    texts = [f"{text} {number}" for number in range(12) for text in TEXTS[:5]]
    together = await embed(model_stub, *texts)
    alone = await asyncio.gather(*(embed(model_stub, text) for text in texts))
    assert np.abs(together - np.concatenate(alone)).max() < 1e-5


async def test_paraphrases_are_nearer_than_unrelated_texts(
    model_stub: ModelServiceAsyncStub,
) -> None:
    task, paraphrase, recipe = (await embed(model_stub, *TEXTS))[:3]
    assert task @ paraphrase > 0.5
    assert task @ recipe < 0.2


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.EmbedRequest(), "texts"),
        (pb.EmbedRequest(texts=["x"] * 1_025), "texts"),
        (pb.EmbedRequest(texts=["a", "b", "c", "d" * 100_001]), "texts[3]"),
    ],
)
async def test_texts_outside_the_limits_are_refused(
    model_stub: ModelServiceAsyncStub, request_: pb.EmbedRequest, field: str
) -> None:
    error = await refusal(model_stub.Embed(request_), grpc.StatusCode.INVALID_ARGUMENT)
    assert error.reason is Reason.FIELD_INVALID
    assert [fault.field for fault in error.faults] == [field]


async def test_a_model_that_is_not_served_is_not_found(model_stub: ModelServiceAsyncStub) -> None:
    call = model_stub.Embed(pb.EmbedRequest(model="gone", texts=["x"]))
    error = await refusal(call, grpc.StatusCode.NOT_FOUND)
    assert error.reason is Reason.MODEL_NOT_FOUND
    assert error.metadata["model"] == "gone"


async def test_a_model_that_reads_no_texts_is_refused(model_stub: ModelServiceAsyncStub) -> None:
    call = model_stub.Embed(pb.EmbedRequest(model="scale", texts=["x"]))
    error = await refusal(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert error.reason is Reason.MODEL_INPUT_INVALID
    assert error.metadata["model"] == "scale"


async def test_a_model_may_be_named(model_stub: ModelServiceAsyncStub) -> None:
    response = await model_stub.Embed(pb.EmbedRequest(model="all-minilm-l6-v2", texts=["x"]))
    assert len(response.vectors) == 4 * 384


async def test_a_call_that_is_given_up_leaves_the_service_well(
    model_stub: ModelServiceAsyncStub,
) -> None:
    texts = [f"{number} {TEXTS[6]}" for number in range(400)]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await model_stub.Embed(pb.EmbedRequest(texts=texts), timeout=0.05)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await embed(model_stub, "and on it goes")).shape == (1, 384)
