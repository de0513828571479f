"""ModelService: decode, one call of the domain, encode."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import grpc.aio

from model_svc import decode, encode
from model_svc.generation.codec import decode_generate, encode_piece
from model_svc.repository.repository import Repository
from model_svc.text import compare
from model_svc.text.extract import Extractor
from stepwire.api.model.v1 import generate_pb2, text_model_pb2, text_pb2
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceServicer
from stepwire.call import current_call
from stepwire.page_tokens import PageTokens

MODEL_SERVICE_NAME: Final[str] = pb.DESCRIPTOR.services_by_name["ModelService"].full_name

_PAGES: Final = PageTokens("ListTextModels")

_Context = grpc.aio.ServicerContext[object, object]


class ModelServicer(ModelServiceServicer):
    """Models by text. Errors are raised as `StepwireError`."""

    def __init__(self, repository: Repository, extractor: Extractor) -> None:
        self._repository = repository
        self._extractor = extractor

    async def ListTextModels(
        self, request: text_model_pb2.ListTextModelsRequest, context: _Context
    ) -> text_model_pb2.ListTextModelsResponse:
        tenant_id = current_call().tenant_id
        size = decode.decode_page_size(request.page_size)
        after = _PAGES.read(tenant_id, request.page_token)
        found = [each for each in await self._repository.text_models() if each.name > after]
        response = text_model_pb2.ListTextModelsResponse(
            models=[encode.encode_text_model(each) for each in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = _PAGES.make(tenant_id, found[size - 1].name)
        return response

    async def Tokenize(self, request: pb.TokenizeRequest, context: _Context) -> pb.TokenizeResponse:
        texts = decode.decode_texts("texts", request.texts)
        with self._repository.embedder(request.model) as (name, model):
            tokenized = await model.tokenize(texts, special=not request.without_special_tokens)
            return pb.TokenizeResponse(
                model=name,
                texts=[encode.encode_tokens(text) for text in tokenized],
                max_tokens=model.max_tokens,
            )

    async def Embed(self, request: pb.EmbedRequest, context: _Context) -> pb.EmbedResponse:
        texts = decode.decode_texts("texts", request.texts)
        options = decode.decode_options(request)
        with self._repository.embedder(request.model) as (name, model):
            embedded = await model.embed(texts, options)
            return pb.EmbedResponse(
                model=name,
                dimension=embedded.vectors.shape[1],
                vectors=embedded.vectors.astype("<f4", copy=False).tobytes(),
                tokens=embedded.tokens,
                truncated=embedded.truncated,
                run=encode.encode_run(embedded.ran, model),
            )

    async def Score(self, request: pb.ScoreRequest, context: _Context) -> pb.ScoreResponse:
        text = decode.decode_text("text", request.text)
        candidates = decode.decode_texts("candidates", request.candidates, decode.MAX_TEXTS - 1)
        priority = decode.decode_priority(request.priority)
        with self._repository.embedder(request.model) as (name, model):
            scored = await compare.score(model, text, candidates, priority=priority)
            return pb.ScoreResponse(
                model=name,
                scores=scored.result,
                tokens=scored.tokens,
                run=encode.encode_run(scored.ran, model),
            )

    async def Classify(self, request: pb.ClassifyRequest, context: _Context) -> pb.ClassifyResponse:
        texts = decode.decode_texts("texts", request.texts, decode.MAX_CLASSIFIED)
        labels = decode.decode_labels(request.labels)
        temperature = decode.decode_temperature(request.temperature)
        top = decode.decode_top(request.top)
        priority = decode.decode_priority(request.priority)
        with self._repository.embedder(request.model) as (name, model):
            classified = await compare.classify(
                model, texts, labels, temperature=temperature, top=top, priority=priority
            )
            return pb.ClassifyResponse(
                model=name,
                classifications=[encode.encode_classification(row) for row in classified.result],
                tokens=classified.tokens,
                run=encode.encode_run(classified.ran, model),
            )

    async def Rerank(self, request: pb.RerankRequest, context: _Context) -> pb.RerankResponse:
        query = decode.decode_text("query", request.query)
        documents = decode.decode_ranked_documents(request)
        top = decode.decode_top(request.top)
        priority = decode.decode_priority(request.priority)
        with self._repository.embedder(request.model) as (name, model):
            ranked = await compare.rerank(model, query, documents, top=top, priority=priority)
            return pb.RerankResponse(
                model=name,
                documents=[
                    text_pb2.RankedDocument(
                        document_id=documents[place.index].id,
                        index=place.index,
                        score=place.score,
                    )
                    for place in ranked.result
                ],
                tokens=ranked.tokens,
                run=encode.encode_run(ranked.ran, model),
            )

    async def Answer(self, request: pb.AnswerRequest, context: _Context) -> pb.AnswerResponse:
        question = decode.decode_question(request.question)
        documents = decode.decode_documents(request)
        quotes = decode.decode_max_sentences(request.max_sentences)
        min_score = decode.decode_min_score(request.min_score)
        with self._repository.embedder(request.model) as (name, model):
            extract = await self._extractor.extract(
                model, question=question, documents=documents, quotes=quotes, min_score=min_score
            )
            return pb.AnswerResponse(
                model=name,
                answer=" ".join(quote.text for quote in extract.quotes),
                quotes=encode.encode_quotes(extract.quotes),
                tokens=extract.tokens,
                run=encode.encode_run(extract.ran, model),
            )

    async def Summarize(
        self, request: pb.SummarizeRequest, context: _Context
    ) -> pb.SummarizeResponse:
        documents = decode.decode_documents(request)
        quotes = decode.decode_max_sentences(request.max_sentences)
        with self._repository.embedder(request.model) as (name, model):
            extract = await self._extractor.extract(
                model, question="", documents=documents, quotes=quotes
            )
            in_order = sorted(extract.quotes, key=lambda quote: quote.place)
            return pb.SummarizeResponse(
                model=name,
                summary=" ".join(quote.text for quote in in_order),
                quotes=encode.encode_quotes(extract.quotes),
                tokens=extract.tokens,
                run=encode.encode_run(extract.ran, model),
            )

    async def Extract(self, request: pb.ExtractRequest, context: _Context) -> pb.ExtractResponse:
        documents = decode.decode_documents(request)
        quotes = decode.decode_max_sentences(request.max_sentences)
        with self._repository.embedder(request.model) as (name, model):
            extract = await self._extractor.extract(
                model, question=request.question, documents=documents, quotes=quotes
            )
            return pb.ExtractResponse(
                quotes=encode.encode_quotes(extract.quotes), model=name, tokens=extract.tokens
            )

    async def Generate(
        self, request: generate_pb2.GenerateRequest, context: _Context
    ) -> AsyncGenerator[generate_pb2.GenerateResponse]:
        call = decode_generate(request)
        with self._repository.generator(request.model) as (name, model):
            async with aclosing(model.generate(call)) as pieces:
                async for piece in pieces:
                    yield encode_piece(piece, name, model)
