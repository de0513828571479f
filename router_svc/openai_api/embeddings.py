"""Embeddings as OpenAI asks for them and answers with them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from router_svc.openai_api import faults
from router_svc.openai_api.chat_request import AUTO
from stepwire.errors import field_invalid

_FLOAT_BYTES = 4


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    model: str
    input: Any
    dimensions: int = 0
    encoding_format: Literal["float", "base64"] = "float"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be embedded.

    Attributes:
        texts: The texts.
        model: The model; empty for the default.
        dimensions: So many values of each vector; 0 for all.
        as_base64: Whether the vectors are wanted as bytes.
    """

    texts: tuple[str, ...]
    model: str
    dimensions: int
    as_base64: bool


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors: `dimension` little-endian float32 values for each text, in one piece."""

    vectors: bytes
    dimension: int
    tokens: int
    model: str


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that can embed now.

    Attributes:
        name: Its name.
        is_default: Whether it is taken where no model is named.
        dimension: Length of its vectors.
        matryoshka_dimensions: Lengths to which it was trained to have them shortened.
        max_tokens: Longest text; what is longer is cut.
    """

    name: str
    is_default: bool
    dimension: int
    matryoshka_dimensions: Sequence[int]
    max_tokens: int


class Embedder(Protocol):
    """Embeds texts."""

    async def models(self) -> Sequence[EmbeddingModel]:
        """Returns the models whose names `embed` takes now.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE, when they are not known.
        """
        ...

    async def embed(self, wanted: Wanted) -> Embedded:
        """Returns the vectors of the texts, in their order.

        Raises:
            StepwireError: As model_svc's Embed.
        """
        ...


def read_wanted(body: Any) -> Wanted:
    """Returns what a body asks for.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    try:
        given = _Body.model_validate(body)
    except ValidationError as error:
        raise faults.of_body(error) from error
    texts = [given.input] if isinstance(given.input, str) else given.input
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        # Numbers of tokens are those of a vocabulary that the models here do not have.
        raise field_invalid("input", "must be a text or a list of texts; tokens are not taken")
    if not 0 <= given.dimensions < 2**31:
        raise field_invalid("dimensions", "must be the number of values wanted")
    model = "" if given.model == AUTO else given.model
    return Wanted(tuple(texts), model, given.dimensions, given.encoding_format == "base64")


def written(embedded: Embedded, wanted: Wanted) -> bytes:
    """Returns vectors as OpenAI answers with them."""
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return orjson.dumps(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(_vectors(embedded, wanted))
            ],
            "model": embedded.model,
            "usage": usage,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def _vectors(embedded: Embedded, wanted: Wanted) -> list[Any]:
    size = embedded.dimension * _FLOAT_BYTES
    if wanted.as_base64:
        starts = range(0, len(embedded.vectors), size)
        return [base64.b64encode(embedded.vectors[at : at + size]).decode() for at in starts]
    values = np.frombuffer(embedded.vectors, dtype="<f4")
    return list(values.reshape(-1, embedded.dimension))
