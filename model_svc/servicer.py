"""ModelService: decode, one call of the domain, encode."""

from typing import Final

import grpc.aio

from model_svc.decode import decode_documents, decode_max_sentences, decode_texts
from model_svc.repository import Repository
from model_svc.text.extract import Extractor
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceServicer

MODEL_SERVICE_NAME: Final[str] = pb.DESCRIPTOR.services_by_name["ModelService"].full_name

_Context = grpc.aio.ServicerContext[object, object]


class ModelServicer(ModelServiceServicer):
    """Models by text. Errors are raised as `StepwireError`."""

    def __init__(self, repository: Repository, extractor: Extractor) -> None:
        self._repository = repository
        self._extractor = extractor

    async def Embed(self, request: pb.EmbedRequest, context: _Context) -> pb.EmbedResponse:
        texts = decode_texts(request)
        name, embedder = self._repository.embedder(request.model)
        embedded = await embedder.embed(texts)
        return pb.EmbedResponse(
            model=name,
            dimension=embedder.dimension,
            vectors=embedded.vectors.astype("<f4", copy=False).tobytes(),
            tokens=embedded.tokens,
            truncated=embedded.truncated,
        )

    async def Extract(self, request: pb.ExtractRequest, context: _Context) -> pb.ExtractResponse:
        documents = decode_documents(request)
        quotes = decode_max_sentences(request)
        name, embedder = self._repository.embedder(request.model)
        extract = await self._extractor.extract(
            embedder, question=request.question, documents=documents, quotes=quotes
        )
        return pb.ExtractResponse(
            quotes=[
                pb.Quote(document_id=quote.document_id, text=quote.text, score=quote.score)
                for quote in extract.quotes
            ],
            model=name,
            tokens=extract.tokens,
        )
