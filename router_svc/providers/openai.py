"""Calls a model through the chat completions of an OpenAI-compatible endpoint."""

from collections.abc import AsyncGenerator
from contextlib import suppress

import orjson

from router_svc.catalogue.models import OpenAIProvider
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.records import Completion, Delta
from router_svc.providers.chat_answer import MAX_ANSWER_BYTES, StreamReader, read_completion
from router_svc.providers.chat_request import chat_body
from router_svc.providers.http import ConnectionFailedError, HttpClient, HttpResponse
from router_svc.providers.refusals import error_told, refusal_of
from router_svc.requests.records import Request

CONNECT_TIMEOUT_SECONDS = 5.0
# For what comes after a stream has said that it is at its end, which is the connection's end
# of it; the caller waits for it.
REST_SECONDS = 0.25
MAX_REFUSAL_BYTES = 1024 * 1024

_PATH = "/chat/completions"
_OK = 200


class OpenAIModel:
    """A `Provider` for one model of one endpoint.

    Args:
        provider: What to call, and how.
        client: Connections to the endpoint; the caller closes it.
        key: The key; None for an endpoint that asks for none. It is sent to that
            endpoint, and goes nowhere else.
    """

    def __init__(self, provider: OpenAIProvider, client: HttpClient, *, key: str | None) -> None:
        self._provider = provider
        self._client = client
        self._key = key
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}

    async def complete(self, request: Request, *, max_output_tokens: int) -> Completion:
        """Returns the model's answer; see `Provider`."""
        try:
            async with await self._send(request, max_output_tokens, stream=False) as response:
                body = await response.read(limit=MAX_ANSWER_BYTES)
        except ConnectionFailedError as error:
            raise _broken(error) from error
        return read_completion(body, request, key=self._key)

    async def stream(self, request: Request, *, max_output_tokens: int) -> AsyncGenerator[Delta]:
        """Yields the model's answer as it comes; see `Provider`."""
        reader = StreamReader(request)
        try:
            async with await self._send(request, max_output_tokens, stream=True) as response:
                async for piece in response.pieces():
                    for delta in reader.feed(piece):
                        yield delta
                    if reader.error is not None:
                        told = "the stream ended with an error"
                        raise error_told(reader.error, told, key=self._key)
                    if reader.ended:
                        break
                await response.skip(seconds=REST_SECONDS)
        except ConnectionFailedError as error:
            # The answer may be whole even so: some endpoints close without an end.
            if not reader.done:
                raise _broken(error) from error
        for delta in reader.end():
            yield delta

    async def _send(
        self, request: Request, max_output_tokens: int, *, stream: bool
    ) -> HttpResponse:
        """Returns the answer to `request`, if it is one."""
        body = chat_body(
            request, self._provider, max_output_tokens=max_output_tokens, stream=stream
        )
        response = await self._client.post(_PATH, orjson.dumps(body), headers=self._headers)
        if response.status == _OK:
            return response
        said = b""
        async with response:
            # The status says what it is, with or without words.
            with suppress(ConnectionFailedError):
                said = await response.read(limit=MAX_REFUSAL_BYTES)
        raise refusal_of(response.status, response.headers, said, key=self._key)


def _broken(error: ConnectionFailedError) -> ProviderFailure:
    return ProviderFailure(
        FailureKind.NETWORK, f"the connection to the endpoint failed ({error})", status="connection"
    )
