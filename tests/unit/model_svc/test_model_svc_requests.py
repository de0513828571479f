import math
from collections.abc import Callable

import pytest

from model_svc import decode
from model_svc.decode import decode_documents, decode_texts
from model_svc.ports import EmbedOptions, Role
from model_svc.running.plan import Pooling
from model_svc.text.candidates import Document
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1 import text_pb2
from stepwire.errors import Reason, StepwireError

Source = pb.SourceDocument


def fault(error: StepwireError) -> str:
    assert error.reason is Reason.FIELD_INVALID
    (only,) = error.faults
    return only.field


def test_texts_within_the_limits_pass() -> None:
    texts = ["", "a" * 100_000, *["x"] * 1_022]
    assert decode_texts("texts", pb.EmbedRequest(texts=texts).texts) == texts


@pytest.mark.parametrize(
    ("texts", "field"),
    [
        ([], "texts"),
        (["x"] * 1_025, "texts"),
        (["a", "b", "c", "é" * 100_001], "texts[3]"),
    ],
)
def test_texts_outside_the_limits_are_named(texts: list[str], field: str) -> None:
    with pytest.raises(StepwireError) as raised:
        decode_texts("texts", pb.EmbedRequest(texts=texts).texts)
    assert fault(raised.value) == field


def test_documents_within_the_limits_pass() -> None:
    sources = [Source(id=str(n), text="x") for n in range(256)]
    documents = decode_documents(pb.ExtractRequest(documents=sources))
    assert documents[255] == Document("255", "x")


@pytest.mark.parametrize(
    ("sources", "field"),
    [
        ([], "documents"),
        ([Source(id=str(n), text="x") for n in range(257)], "documents"),
        ([Source(id="a", text="x"), Source(text="x")], "documents[1].id"),
        ([Source(id="a", text="x"), Source(id="a", text="y")], "documents[1].id"),
        ([Source(id="a")], "documents[0].text"),
    ],
)
def test_documents_outside_the_limits_are_named(sources: list[Source], field: str) -> None:
    with pytest.raises(StepwireError) as raised:
        decode_documents(pb.ExtractRequest(documents=sources))
    assert fault(raised.value) == field


def test_the_number_of_quotes_has_a_default_and_limits() -> None:
    assert decode.decode_max_sentences(0) == 2
    assert decode.decode_max_sentences(20) == 20


LABELS = [text_pb2.Label(name="a"), text_pb2.Label(name="b")]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: decode.decode_max_sentences(-1), "max_sentences"),
        (lambda: decode.decode_max_sentences(21), "max_sentences"),
        (lambda: decode.decode_priority(-1), "priority"),
        (lambda: decode.decode_top(-1), "top"),
        (lambda: decode.decode_temperature(math.nan), "temperature"),
        (lambda: decode.decode_temperature(-0.1), "temperature"),
        (lambda: decode.decode_temperature(math.inf), "temperature"),
        (lambda: decode.decode_min_score(math.nan), "min_score"),
        (lambda: decode.decode_min_score(1.1), "min_score"),
        (lambda: decode.decode_text("query", ""), "query"),
        (lambda: decode.decode_text("query", "x" * 100_001), "query"),
        (lambda: decode.decode_question(" \n"), "question"),
        (lambda: decode.decode_labels(LABELS[:1]), "labels"),
        (lambda: decode.decode_labels([*LABELS, *LABELS]), "labels[2].name"),
        (lambda: decode.decode_labels([*LABELS, text_pb2.Label()]), "labels[2].name"),
        (
            lambda: decode.decode_labels([*LABELS, text_pb2.Label(name="c", texts=["x"] * 33)]),
            "labels[2].texts",
        ),
        (lambda: decode.decode_options(pb.EmbedRequest(dimensions=-1)), "dimensions"),
        (lambda: decode.decode_options(pb.EmbedRequest(prefix="x" * 1_001)), "prefix"),
        (lambda: decode.decode_options(pb.EmbedRequest(pooling=99)), "pooling"),
        (lambda: decode.decode_options(pb.EmbedRequest(role=99)), "role"),
    ],
)
def test_what_is_outside_its_limits_is_named(call: Callable[[], object], field: str) -> None:
    with pytest.raises(StepwireError) as raised:
        call()
    assert fault(raised.value) == field


def test_what_is_not_said_is_left_to_the_model() -> None:
    assert decode.decode_options(pb.EmbedRequest()) == EmbedOptions()
    said = pb.EmbedRequest(
        refuse_longer=True,
        normalize=False,
        dimensions=64,
        pooling=text_pb2.POOLING_FIRST,
        prefix="query: ",
        role=text_pb2.TEXT_ROLE_DOCUMENT,
        priority=3,
    )
    assert decode.decode_options(said) == EmbedOptions(
        pooling=Pooling.FIRST,
        normalize=False,
        dimensions=64,
        truncate=False,
        prefix="query: ",
        role=Role.DOCUMENT,
        priority=3,
    )
