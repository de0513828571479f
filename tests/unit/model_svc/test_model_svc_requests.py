import pytest

from model_svc.decode import decode_documents, decode_max_sentences, decode_texts
from model_svc.text.candidates import Document
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.errors import Reason, StepwireError

Source = pb.SourceDocument


def fault(error: StepwireError) -> str:
    assert error.reason is Reason.FIELD_INVALID
    (only,) = error.faults
    return only.field


def test_texts_within_the_limits_pass() -> None:
    texts = ["", "a" * 100_000, *["x"] * 1_022]
    assert decode_texts(pb.EmbedRequest(texts=texts)) == texts


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
        decode_texts(pb.EmbedRequest(texts=texts))
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
    assert decode_max_sentences(pb.ExtractRequest()) == 2
    assert decode_max_sentences(pb.ExtractRequest(max_sentences=20)) == 20
    for count in (-1, 21):
        with pytest.raises(StepwireError) as raised:
            decode_max_sentences(pb.ExtractRequest(max_sentences=count))
        assert fault(raised.value) == "max_sentences"
