"""Calls a model through the chat completions of an OpenAI-compatible endpoint."""

import logging
from datetime import UTC, datetime
from typing import Any

import openai
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router_svc.catalogue.models import OpenAIProvider
from router_svc.generate.ports import Completion, FailureKind, ProviderFailure, Usage
from router_svc.providers.retry_after import read_retry_after
from router_svc.providers.sources import read_citations, render_sources
from router_svc.requests.records import Request, Role

_logger = logging.getLogger(__name__)

# The package insists on a key; endpoints that ask for none ignore this one.
NO_KEY = "none"
CONNECT_TIMEOUT_SECONDS = 5.0
# What a provider says about an error is passed on, up to this many characters.
_MESSAGE_CHARACTERS = 300

_UNAVAILABLE = frozenset({408, 409, 425, 429})
_MISCONFIGURED = frozenset({401, 402, 403, 404})
_ABOUT_THE_KEY = frozenset({401, 403})
_PAYLOAD_TOO_LARGE = 413
_SERVER_ERRORS = 500
_TOO_LONG = "context_length_exceeded"


class _Message(BaseModel):
    content: str | None
    # What a model says that declines to answer; then there is no content.
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    # Bounded by what the API's own fields hold.
    prompt_tokens: int = Field(ge=0, lt=2**31)
    completion_tokens: int = Field(ge=0, lt=2**31)


class _ChatCompletion(BaseModel):
    """The part of a chat completion that is needed, checked strictly.

    The package's own types are built without checks, so that an endpoint which leaves
    a field out would surface as an AttributeError here.
    """

    model_config = ConfigDict(extra="ignore")

    choices: tuple[_Choice, ...] = Field(min_length=1)
    usage: _Usage | None = None


class OpenAIModel:
    """A `Provider` for one model of one endpoint. Owns its connections.

    Args:
        provider: Where and what to call.
        api_key: The key; None for an endpoint that asks for none. It is sent to
            `provider.base_url` and goes nowhere else.
        timeout_seconds: Longest silence of the endpoint within a try.
    """

    def __init__(
        self, provider: OpenAIProvider, *, api_key: str | None, timeout_seconds: float
    ) -> None:
        self._provider = provider
        self._client = openai.AsyncOpenAI(
            api_key=api_key or NO_KEY,
            base_url=provider.base_url,
            # One retry authority: the router.
            max_retries=0,
            timeout=openai.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
        )
        # The package takes these from OPENAI_ORG_ID and OPENAI_PROJECT_ID and would
        # send them to every endpoint; the catalogue says what is sent where.
        self._client.organization = None
        self._client.project = None
        # Looked up here, since the package imports much at the first look.
        self._completions = self._client.chat.completions.with_raw_response

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def complete(self, request: Request, *, max_output_tokens: int) -> Completion:
        """Returns the model's answer; see `Provider`."""
        fields: dict[str, Any] = {self._provider.token_limit_field: max_output_tokens}
        if request.temperature is not None:
            fields["temperature"] = request.temperature
        try:
            response = await self._completions.create(
                model=self._provider.model, messages=_messages(request), **fields
            )
        except openai.APIStatusError as error:
            raise _status_failure(error) from error
        except openai.APITimeoutError as error:
            raise ProviderFailure(
                FailureKind.UNAVAILABLE, "the endpoint did not answer in time", status="timeout"
            ) from error
        except openai.APIConnectionError as error:
            cause = type(error.__cause__ or error).__name__
            raise ProviderFailure(
                FailureKind.UNAVAILABLE,
                f"the connection to the endpoint failed ({cause})",
                status="connection",
            ) from error
        return _read(response.content, request)


def _messages(request: Request) -> Any:
    """Returns the conversation as chat messages, the sources in front of it."""
    sources = (
        [{"role": Role.SYSTEM.value, "content": render_sources(request.documents)}]
        if request.documents
        else []
    )
    return sources + [
        {"role": message.role.value, "content": message.content} for message in request.messages
    ]


def _read(body: bytes, request: Request) -> Completion:
    try:
        answer = _ChatCompletion.model_validate_json(body)
    except ValidationError as error:
        _logger.warning(
            "an endpoint's answer is not a chat completion",
            extra={"faults": error.errors(include_input=False, include_url=False)},
        )
        raise ProviderFailure(
            FailureKind.UNAVAILABLE, "the answer is not a chat completion", status="malformed"
        ) from error
    choice = answer.choices[0]
    said_text = choice.message.content or choice.message.refusal or ""
    if not said_text.strip():
        # Seen of models that spend all their tokens on reasoning.
        raise ProviderFailure(
            FailureKind.UNFIT,
            f"the answer is empty (finish_reason {choice.finish_reason})",
            status="empty",
        )
    text, citations = read_citations(said_text, request.documents)
    said = answer.usage
    usage = None if said is None else Usage(said.prompt_tokens, said.completion_tokens)
    return Completion(text=text, citations=citations, usage=usage)


def _status_failure(error: openai.APIStatusError) -> ProviderFailure:
    return ProviderFailure(
        _kind_of(error),
        f"the endpoint answered {error.status_code}: {_said(error)}",
        status=str(error.status_code),
        retry_after=read_retry_after(error.response.headers, now=datetime.now(UTC)),
    )


def _kind_of(error: openai.APIStatusError) -> FailureKind:
    status = error.status_code
    if status in _UNAVAILABLE or status >= _SERVER_ERRORS:
        return FailureKind.UNAVAILABLE
    if status in _MISCONFIGURED:
        return FailureKind.MISCONFIGURED
    if status == _PAYLOAD_TOO_LARGE or error.code == _TOO_LONG:
        return FailureKind.UNFIT
    return FailureKind.REFUSED


def _said(error: openai.APIStatusError) -> str:
    """Returns what the endpoint says about the error, shortened, without the key.

    Answers about a key repeat parts of it, so their text is not used at all.
    """
    text = str(error.response.reason_phrase)
    if error.status_code not in _ABOUT_THE_KEY and isinstance(error.body, dict):
        text = str(error.body.get("message") or text)
    key = error.request.headers.get("authorization", "").removeprefix("Bearer ")
    if key:
        text = text.replace(key, "***")
    return " ".join(text.split())[:_MESSAGE_CHARACTERS]
