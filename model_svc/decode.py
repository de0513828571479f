"""Requests of ModelService, checked against the limits that the proto file states."""

import math
from collections.abc import Sequence
from typing import Final, Protocol

from model_svc.ports import EmbedOptions, Role
from model_svc.running.plan import Pooling
from model_svc.text.candidates import Document
from model_svc.text.compare import Label
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1 import text_pb2
from stepwire.errors import field_invalid

MAX_TEXTS: Final = 1_024
MAX_CLASSIFIED: Final = 512
MAX_TEXT_CHARACTERS: Final = 100_000
MAX_PREFIX_CHARACTERS: Final = 1_000
MAX_DOCUMENTS: Final = 256
MAX_RERANK_CHARACTERS: Final = 1_000_000
MAX_QUOTES: Final = 20
MAX_LABELS: Final = 128
MAX_LABEL_TEXTS: Final = 32
MAX_TEMPERATURE: Final = 10.0
MAX_PAGE_SIZE: Final = 1_000
_DEFAULT_PAGE_SIZE: Final = 50
_DEFAULT_QUOTES: Final = 2
_DEFAULT_TEMPERATURE: Final = 0.05

_POOLINGS: Final = {
    text_pb2.POOLING_UNSPECIFIED: None,
    text_pb2.POOLING_MEAN: Pooling.MEAN,
    text_pb2.POOLING_FIRST: Pooling.FIRST,
}
_ROLES: Final = {
    text_pb2.TEXT_ROLE_UNSPECIFIED: None,
    text_pb2.TEXT_ROLE_QUERY: Role.QUERY,
    text_pb2.TEXT_ROLE_DOCUMENT: Role.DOCUMENT,
}


class _WithDocuments(Protocol):
    @property
    def documents(self) -> Sequence[pb.SourceDocument]: ...


def decode_texts(field: str, texts: Sequence[str], limit: int = MAX_TEXTS) -> list[str]:
    """Returns the texts of a repeated field.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    _check_count(field, len(texts), limit)
    for index, text in enumerate(texts):
        _check_text(f"{field}[{index}]", text)
    return list(texts)


def decode_text(field: str, text: str) -> str:
    """Returns the text of a field that is required.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if not text:
        raise field_invalid(field, "must not be empty")
    _check_text(field, text)
    return text


def decode_question(question: str) -> str:
    """Returns a question that is not blank.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if not question.strip():
        raise field_invalid("question", "must not be blank")
    return decode_text("question", question)


def decode_options(request: pb.EmbedRequest) -> EmbedOptions:
    """Returns how texts are to be embedded.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if request.pooling not in _POOLINGS:
        raise field_invalid("pooling", "is not one that this server knows")
    if request.role not in _ROLES:
        raise field_invalid("role", "is not one that this server knows")
    if request.dimensions < 0:
        raise field_invalid("dimensions", "must not be negative")
    if len(request.prefix) > MAX_PREFIX_CHARACTERS:
        raise field_invalid("prefix", f"must have at most {MAX_PREFIX_CHARACTERS} characters")
    return EmbedOptions(
        pooling=_POOLINGS[request.pooling],
        normalize=request.normalize if request.HasField("normalize") else None,
        dimensions=request.dimensions,
        truncate=not request.refuse_longer,
        prefix=request.prefix,
        role=_ROLES[request.role],
        priority=decode_priority(request.priority),
    )


def decode_priority(priority: int) -> int:
    """Returns a call's priority.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if priority < 0:
        raise field_invalid("priority", "must not be negative")
    return priority


def decode_page_size(size: int) -> int:
    """Returns the number of entries on a page.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if size < 0:
        raise field_invalid("page_size", "must not be negative")
    return min(size or _DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def decode_top(top: int) -> int:
    """Returns how many of the best are wanted; 0 for all.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if top < 0:
        raise field_invalid("top", "must not be negative")
    return top


def decode_labels(labels: Sequence[text_pb2.Label]) -> list[Label]:
    """Returns the labels to choose from.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if not 2 <= len(labels) <= MAX_LABELS:  # noqa: PLR2004 - one is no choice
        raise field_invalid("labels", f"must have from 2 to {MAX_LABELS} entries")
    seen: set[str] = set()
    for index, label in enumerate(labels):
        field = f"labels[{index}]"
        decode_text(f"{field}.name", label.name)
        if label.name in seen:
            raise field_invalid(f"{field}.name", "must be unique in the request")
        seen.add(label.name)
        if label.texts:
            decode_texts(f"{field}.texts", label.texts, MAX_LABEL_TEXTS)
    return [Label(label.name, tuple(label.texts)) for label in labels]


def decode_temperature(temperature: float) -> float:
    """Returns what cosines are divided by.

    Raises:
        StepwireError: FIELD_INVALID, also for NaN.
    """
    if not 0 <= temperature <= MAX_TEMPERATURE:
        raise field_invalid("temperature", f"must be from 0 to {MAX_TEMPERATURE:g}")
    return temperature or _DEFAULT_TEMPERATURE


def decode_min_score(score: float) -> float:
    """Returns the cosine that a quote must have.

    Raises:
        StepwireError: FIELD_INVALID, also for NaN.
    """
    if math.isnan(score) or not -1 <= score <= 1:
        raise field_invalid("min_score", "must be from -1 to 1")
    return score


def decode_documents(request: _WithDocuments) -> list[Document]:
    """Returns the documents to look into.

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


def decode_ranked_documents(request: _WithDocuments) -> list[Document]:
    """Returns the documents to rank, which are read whole.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    documents = decode_documents(request)
    if sum(len(document.text) for document in documents) > MAX_RERANK_CHARACTERS:
        raise field_invalid(
            "documents", f"must have at most {MAX_RERANK_CHARACTERS} characters together"
        )
    return documents


def decode_max_sentences(max_sentences: int) -> int:
    """Returns the number of sentences to quote.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if not 0 <= max_sentences <= MAX_QUOTES:
        raise field_invalid("max_sentences", f"must be from 0 to {MAX_QUOTES}")
    return max_sentences or _DEFAULT_QUOTES


def _check_text(field: str, text: str) -> None:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise field_invalid(field, f"must have at most {MAX_TEXT_CHARACTERS} characters")


def _check_count(field: str, count: int, limit: int) -> None:
    if not 1 <= count <= limit:
        raise field_invalid(field, f"must have from 1 to {limit} entries, has {count}")
