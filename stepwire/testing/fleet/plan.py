"""What a fleet is and how it behaves: read from YAML or JSON, or built in a test."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from stepwire.testing.fleet.latency import Constant, Distribution

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$")]


class FaultKind(StrEnum):
    """What may go wrong with a request."""

    RATE_LIMITED = "rate_limited"
    """429, with Retry-After."""
    NO_CREDIT = "no_credit"
    """402; `status` 400 or 429 are other providers' ways to say it."""
    CONTEXT_TOO_LONG = "context_too_long"
    """400 with the code `context_length_exceeded`."""
    CONTENT_FILTERED = "content_filtered"
    """400 with the code `content_filter`; with `after_tokens`, an answer cut by the filter."""
    BAD_REQUEST = "bad_request"
    """400."""
    UNAUTHORIZED = "unauthorized"
    """401."""
    SERVER_ERROR = "server_error"
    """500, or another `status`."""
    HANG = "hang"
    """No answer; with `after_tokens`, a stream that stops there without an end."""
    DISCONNECT = "disconnect"
    """The connection is closed without an answer."""
    CUT = "cut"
    """The connection is closed within the answer."""
    GARBAGE = "garbage"
    """An answer that is no chat completion; with `after_tokens`, a stream that turns into it."""
    EMPTY = "empty"
    """A chat completion without any content."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Part):
    """One thing that goes wrong."""

    kind: FaultKind
    status: int | None = Field(default=None, ge=400, le=599, description="HTTP status instead.")
    retry_after_seconds: float | None = Field(
        default=None, ge=0, description="Value of Retry-After; unset sends none."
    )
    retry_after_as: Literal["seconds", "date"] = Field(
        default="seconds", description="Whether Retry-After is a number or an HTTP date."
    )
    after_tokens: int | None = Field(
        default=None, ge=0, description="Tokens of the answer that are sent before."
    )
    message: str = Field(default="", description="Text of the error; empty for a fitting one.")


class ToolCallPlan(_Part):
    """A call of a tool that an answer consists of."""

    name: str
    arguments: dict[str, Any] = {}


class Turn(_Part):
    """What becomes of the next request or requests."""

    times: int = Field(default=1, ge=1, description="Requests that it holds for.")
    fault: Fault | None = Field(default=None, description="What goes wrong; unset: nothing.")
    text: str | None = Field(default=None, description="The answer; unset: words by the seed.")
    tool_calls: tuple[ToolCallPlan, ...] = ()
    usage: bool = Field(default=True, description="Whether the answer says what it used.")
    latency_seconds: float | None = Field(
        default=None, ge=0, description="Time until the first token; unset: the endpoint's."
    )


class RandomFault(_Part):
    """A fault that befalls a share of all requests."""

    share: float = Field(gt=0, le=1)
    fault: Fault


class Outage(_Part):
    """A time in which every request fails."""

    from_seconds: float = Field(ge=0, description="Since the start of the endpoint.")
    to_seconds: float = Field(ge=0)
    fault: Fault = Fault(kind=FaultKind.SERVER_ERROR, status=503)


class ModelPlan(_Part):
    """A model of an endpoint."""

    name: Name
    context_window: int = Field(default=128_000, ge=1)
    dimensions: int = Field(default=384, ge=1, description="Of its embeddings.")


class EndpointPlan(_Part):
    """One server."""

    name: Name
    port: int = Field(default=0, ge=0, le=65_535, description="0 takes a free one.")
    keys: tuple[str, ...] = Field(default=(), description="Accepted keys; empty accepts all.")
    models: tuple[ModelPlan, ...] = Field(default=(ModelPlan(name="small"),), min_length=1)
    latency_seconds: Distribution = Field(
        default=Constant(), description="Time until the first token."
    )
    token_seconds: Distribution = Field(
        default=Constant(), description="Time of each token after the first."
    )
    answer_tokens: Distribution = Field(
        default=Constant(value=16), description="Length of an answer, in tokens."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="More are answered with 429; unset: no limit."
    )
    credit_tokens: int | None = Field(
        default=None, ge=0, description="Tokens until credit is exhausted; unset: no end."
    )
    script: tuple[Turn, ...] = Field(default=(), description="The first requests, in order.")
    faults: tuple[RandomFault, ...] = ()
    outages: tuple[Outage, ...] = ()


class FleetPlan(_Part):
    """All servers. The same seed and the same order of requests give the same answers."""

    seed: int = 1
    endpoints: tuple[EndpointPlan, ...] = Field(min_length=1)


def load_plan(path: Path) -> FleetPlan:
    """Returns the plan in a YAML (or JSON) file.

    Raises:
        ValueError: It is none; pydantic's message names the field.
    """
    return FleetPlan.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
