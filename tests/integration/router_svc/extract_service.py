"""A ModelService that compares words: Extract and Embed take them for meanings."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from zlib import crc32

import grpc.aio
import numpy as np

from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import (
    ModelServiceServicer,
    add_ModelServiceServicer_to_server,
)
from stepwire.errors import StepwireError
from stepwire.rpc import Server, Service
from stepwire.settings import ServiceSettings

DIMENSION = 64


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class ExtractService(ModelServiceServicer):
    """Real in all but the comparison: words in place of vectors."""

    def __init__(self) -> None:
        self.target = ""
        self.seen: list[pb.ExtractRequest] = []
        self.time_left: list[float | None] = []
        self.error: StepwireError | None = None

    async def Embed(  # noqa: N802
        self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EmbedResponse:
        vectors = np.zeros((len(request.texts), DIMENSION), dtype="<f4")
        for row, text in zip(vectors, request.texts, strict=True):
            for word in words(text):
                row[crc32(word.encode()) % DIMENSION] += 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return pb.EmbedResponse(model="by-words", dimension=DIMENSION, vectors=vectors.tobytes())

    async def Extract(  # noqa: N802
        self, request: pb.ExtractRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExtractResponse:
        self.seen.append(request)
        self.time_left.append(context.time_remaining())
        if self.error is not None:
            raise self.error
        quotes = [
            pb.Quote(
                document_id=document.id,
                text=sentence,
                score=len(words(sentence) & words(request.question)),
            )
            for document in request.documents
            for sentence in re.split(r"(?<=[.!?])\s+", document.text.strip())
            if words(sentence)
        ]
        quotes.sort(key=lambda quote: -quote.score)
        return pb.ExtractResponse(
            quotes=quotes[: request.max_sentences or 2], model="by-words", tokens=42
        )


@asynccontextmanager
async def extract_service(**settings: Any) -> AsyncIterator[ExtractService]:
    service = ExtractService()
    offered = Service(
        "stepwire.api.model.v1.ModelService",
        partial(add_ModelServiceServicer_to_server, service),
    )
    async with Server("model", ServiceSettings(port=0, **settings), [offered]) as server:
        service.target = server.address
        yield service
