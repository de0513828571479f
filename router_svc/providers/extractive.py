"""Answers by quoting sentences, through model_svc's Extract."""

from collections.abc import AsyncGenerator, Sequence

import grpc.aio

from router_svc.decide.passage import Passage, find_passage
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.records import Citation, Completion, Delta, FinishReason
from router_svc.generate.usage import Usage
from router_svc.providers.model_service import failure_of
from router_svc.requests.records import Request
from router_svc.tokens.ports import TokenCounter
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceStub


class ExtractiveModel:
    """A `Provider` that quotes from the request's documents or its own long text.

    The conversation before the last message and the temperature have no part in it:
    the same documents and question give the same answer.

    Args:
        channel: To model_svc; the caller closes it.
        embedding_model: Model that compares sentences; empty for model_svc's default.
        counter: Keeps the answer within the tokens asked for.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, embedding_model: str, counter: TokenCounter
    ) -> None:
        self._stub = ModelServiceStub(channel)
        self._embedding_model = embedding_model
        self._counter = counter

    async def complete(self, request: Request, *, max_output_tokens: int) -> Completion:
        """Returns quoted sentences, each with its document's id; see `Provider`."""
        passage = find_passage(request)
        if passage is None:
            raise ProviderFailure(FailureKind.UNFIT, "there is no text to quote from", called=False)
        try:
            response = await self._stub.Extract(_extract_request(passage, self._embedding_model))
        except grpc.aio.AioRpcError as error:
            raise failure_of(error) from error
        quotes = self._within(
            [Citation(quote.document_id, quote.text) for quote in response.quotes],
            max_output_tokens,
            citable=passage.citable,
        )
        if not quotes:
            raise ProviderFailure(FailureKind.UNFIT, "no sentence was found that could be quoted")
        text = _render(quotes, citable=passage.citable)
        return Completion(
            text=text,
            # The caller's own message is no document of the request: nothing to cite.
            citations=tuple(quotes) if passage.citable else (),
            usage=Usage(response.tokens, self._counter.count(text)),
            finish=FinishReason.STOP,
        )

    async def stream(self, request: Request, *, max_output_tokens: int) -> AsyncGenerator[Delta]:
        """Yields the quotes at once: they are found together; see `Provider`."""
        completion = await self.complete(request, max_output_tokens=max_output_tokens)
        yield Delta(text=completion.text)
        yield Delta(end=completion)

    def _within(
        self, quotes: Sequence[Citation], max_output_tokens: int, *, citable: bool
    ) -> Sequence[Citation]:
        """Returns as many of `quotes` as fit; of the first alone, as many words."""
        for end in range(len(quotes), 0, -1):
            if self._counter.count(_render(quotes[:end], citable=citable)) <= max_output_tokens:
                return quotes[:end]
        words = quotes[0].quote.split() if quotes else []
        for end in range(len(words) - 1, 0, -1):
            cut = [Citation(quotes[0].document_id, " ".join(words[:end]))]
            if self._counter.count(_render(cut, citable=citable)) <= max_output_tokens:
                return cut
        return []


def _extract_request(passage: Passage, embedding_model: str) -> pb.ExtractRequest:
    return pb.ExtractRequest(
        model=embedding_model,
        question=passage.question,
        documents=[
            pb.SourceDocument(id=document.id, text=document.text) for document in passage.documents
        ],
    )


def _render(quotes: Sequence[Citation], *, citable: bool) -> str:
    if not citable:
        return " ".join(citation.quote for citation in quotes)
    return " ".join(f'"{citation.quote}" [{citation.document_id}]' for citation in quotes)
