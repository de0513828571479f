"""Step functions that every worker has, for tasks on text."""

from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stepwire.sdk.functions import PermanentError, step
from stepwire.sdk.passages import split_text

Input = TypeVar("Input", bound=BaseModel)


class SplitInput(BaseModel):
    """What `text.split` takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str = Field(min_length=1, description="Name of the document; begins every passage's id.")
    text: str = Field(description="The text.")
    title: str = Field(default="", description="Title of the document; passed over.")
    # Short passages are found better: the demo's questions were tried with 300 to 800.
    max_characters: int = Field(default=350, ge=20, le=20_000, description="Longest passage.")
    overlap_characters: int = Field(
        default=0,
        ge=0,
        description="How much of its predecessor's end a passage may repeat; at most half of "
        "`max_characters`.",
    )
    batch_size: int = Field(default=32, ge=1, le=1_024, description="Passages in a batch.")

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.overlap_characters > self.max_characters // 2:
            raise ValueError("overlap_characters must be at most half of max_characters")
        return self


class SourcedAnswer(BaseModel):
    """What `text.cite` takes: the outputs of a model step and of the search before it."""

    model_config = ConfigDict(extra="forbid")

    answer: dict[str, Any]
    hits: list[dict[str, Any]]


@step("text.split")
def split(value: Any) -> dict[str, Any]:
    """Cuts a document into passages, in batches of a size to embed at once.

    Args:
        value: The fields of `SplitInput`.

    Returns:
        `{"passages": number, "batches": [[passage, …], …]}`, where a passage is
        `{"id": "DOCUMENT#position", "position": its place in the document, "slot": its place
        in the batch, "start": index of its first character, "text": its text}`.

    Raises:
        PermanentError: The value is not such an object.
    """
    document = parse(SplitInput, value)
    passages = split_text(
        document.text,
        max_characters=document.max_characters,
        overlap_characters=document.overlap_characters,
    )
    written = [
        {
            "id": f"{document.id}#{passage.position}",
            "position": passage.position,
            "slot": passage.position % document.batch_size,
            "start": passage.start,
            "text": passage.text,
        }
        for passage in passages
    ]
    starts = range(0, len(written), document.batch_size)
    return {
        "passages": len(written),
        "batches": [written[start : start + document.batch_size] for start in starts],
    }


@step("text.cite")
def cite(value: Any) -> dict[str, Any]:
    """Picks out of an answer which documents it cites.

    Args:
        value: The fields of `SourcedAnswer`: `answer` is the output of a `model` step whose
            documents were the search's hits; `hits` is the output of that `search` step, over
            points whose payload has `source` and `title`.

    Returns:
        `{"text", "model", "sources": [{"source", "title", "quotes": [text, …]}, …]}`, the
        sources in the order in which the answer uses them.

    Raises:
        PermanentError: The value is not such an object, or the answer cites a document that
            was not among the hits.
    """
    given = parse(SourcedAnswer, value)
    payloads = {hit["id"]: hit["payload"] for hit in given.hits}
    sources: dict[str, dict[str, Any]] = {}
    for citation in given.answer["citations"]:
        payload = payloads.get(citation["document_id"])
        if payload is None:
            raise PermanentError(
                f"the answer cites {citation['document_id']!r}, which the search did not find"
            )
        source = sources.setdefault(
            payload["source"],
            {"source": payload["source"], "title": payload["title"], "quotes": []},
        )
        source["quotes"].append(citation["quote"])
    return {
        "text": given.answer["text"],
        "model": given.answer["model"],
        "sources": list(sources.values()),
    }


def parse(model: type[Input], value: Any) -> Input:
    """Reads a step's input into a pydantic model.

    Raises:
        PermanentError: The input does not fit; the message names the fields.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc'])) or 'input'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise PermanentError("; ".join(faults)) from None
