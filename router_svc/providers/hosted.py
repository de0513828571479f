"""Answers of a model that model_svc itself runs, through its Generate."""

from collections.abc import AsyncGenerator, Iterator

import grpc.aio

from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.records import Completion, Delta, FinishReason
from router_svc.generate.usage import Usage
from router_svc.providers.model_service import failure_of
from router_svc.providers.sources import CitationStream, citable, render_sources
from router_svc.requests.records import Message, Request, Role
from stepwire.api.model.v1 import generate_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceStub

_ROLES = {
    Role.SYSTEM: pb.CHAT_ROLE_SYSTEM,
    Role.USER: pb.CHAT_ROLE_USER,
    Role.ASSISTANT: pb.CHAT_ROLE_ASSISTANT,
}
_FINISHES = {
    pb.FINISH_REASON_STOP: FinishReason.STOP,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
}


class HostedModel:
    """A `Provider` over a model of model_svc that writes text.

    It knows no tools and no pictures.

    Args:
        channel: To model_svc; the caller closes it.
        model: The model's name there.
    """

    def __init__(self, channel: grpc.aio.Channel, model: str) -> None:
        self._stub = ModelServiceStub(channel)
        self._model = model

    async def complete(self, request: Request, *, max_output_tokens: int) -> Completion:
        """Returns the text once it is written; see `Provider`."""
        async for delta in self.stream(request, max_output_tokens=max_output_tokens):
            if delta.end is not None:
                return delta.end
        raise _broken_off()

    async def stream(self, request: Request, *, max_output_tokens: int) -> AsyncGenerator[Delta]:
        """Yields the text as it is written; see `Provider`. Closing it ends the writing."""
        call = self._stub.Generate(_generate_request(self._model, request, max_output_tokens))
        citations, parts = CitationStream(citable(request)), []
        try:
            async for response in call:
                if response.WhichOneof("event") == "end":
                    parts.append(citations.flush())
                    if parts[-1]:
                        yield Delta(text=parts[-1])
                    yield Delta(end=_completion("".join(parts), citations, response.end))
                    return
                parts.append(citations.feed(response.text))
                if parts[-1]:
                    yield Delta(text=parts[-1])
        except grpc.aio.AioRpcError as error:
            raise failure_of(error) from error
        finally:
            call.cancel()
        raise _broken_off()


def _generate_request(model: str, request: Request, max_output_tokens: int) -> pb.GenerateRequest:
    sampling = pb.Sampling()
    if request.temperature is not None:
        sampling.temperature = request.temperature
    if request.top_p is not None:
        sampling.top_p = request.top_p
    if request.sampling_seed is not None:
        sampling.seed = request.sampling_seed & 0x7FFFFFFF
    return pb.GenerateRequest(
        model=model,
        messages=_messages(request),
        max_tokens=max_output_tokens,
        sampling=sampling,
        stop=request.stop,
    )


def _messages(request: Request) -> Iterator[pb.ChatMessage]:
    if request.documents:
        yield pb.ChatMessage(role=pb.CHAT_ROLE_SYSTEM, text=render_sources(request.documents))
    for message in request.messages:
        yield _message(message)


def _message(message: Message) -> pb.ChatMessage:
    if message.role not in _ROLES or message.images or message.tool_calls:
        raise ProviderFailure(
            FailureKind.UNFIT, "the model knows no tools and no pictures", called=False
        )
    return pb.ChatMessage(role=_ROLES[message.role], text=message.content)


def _completion(text: str, citations: CitationStream, end: pb.GenerateEnd) -> Completion:
    if not text:
        raise ProviderFailure(
            FailureKind.NONSENSE,
            "the model wrote nothing",
            status="empty",
            usage=Usage(end.input_tokens, end.output_tokens),
        )
    return Completion(
        text=text,
        citations=citations.cited,
        usage=Usage(end.input_tokens, end.output_tokens),
        finish=_FINISHES.get(end.finish_reason, FinishReason.UNKNOWN),
        model=end.model,
    )


def _broken_off() -> ProviderFailure:
    return ProviderFailure(FailureKind.NETWORK, "the text broke off", status="connection")
