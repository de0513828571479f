"""Requests of ModelService, checked against the limits that the proto file states."""

from collections.abc import Sequence
from typing import Final

from model_svc.text.candidates import Document
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.errors import field_invalid

MAX_TEXTS: Final = 1_024
MAX_TEXT_CHARACTERS: Final = 100_000
MAX_DOCUMENTS: Final = 256
MAX_QUOTES: Final = 20
_DEFAULT_QUOTES: Final = 2


def decode_texts(request: pb.EmbedRequest) -> Sequence[str]:
    """Returns the texts to embed.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    texts = list(request.texts)
    _check_count("texts", len(texts), MAX_TEXTS)
    for index, text in enumerate(texts):
        if len(text) > MAX_TEXT_CHARACTERS:
            raise field_invalid(
                f"texts[{index}]", f"must have at most {MAX_TEXT_CHARACTERS} characters"
            )
    return texts


def decode_documents(request: pb.ExtractRequest) -> list[Document]:
    """Returns the documents to quote from.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    _check_count("documents", len(request.documents), MAX_DOCUMENTS)
    seen: set[str] = set()
    for index, document in enumerate(request.documents):
        if not document.id:
            raise field_invalid(f"documents[{index}].id", "must not be empty")
        if document.id in seen:
            raise field_invalid(f"documents[{index}].id", "must be unique in the request")
        if not document.text:
            raise field_invalid(f"documents[{index}].text", "must not be empty")
        seen.add(document.id)
    return [Document(document.id, document.text) for document in request.documents]


def decode_max_sentences(request: pb.ExtractRequest) -> int:
    """Returns the number of sentences to quote.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if not 0 <= request.max_sentences <= MAX_QUOTES:
        raise field_invalid("max_sentences", f"must be from 0 to {MAX_QUOTES}")
    return request.max_sentences or _DEFAULT_QUOTES


def _check_count(field: str, count: int, limit: int) -> None:
    if not 1 <= count <= limit:
        raise field_invalid(field, f"must have from 1 to {limit} entries, has {count}")
