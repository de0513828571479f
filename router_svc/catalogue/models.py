"""The models that the router may use: what each costs, can do and holds.

Pure types with the rules that one entry must keep. `document` reads them from YAML.
"""

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from router_svc.catalogue.kinds import Kind, Tier
from router_svc.catalogue.prices import Price

ESTIMATE = "estimate"
# Far above what any provider gives, and far below what the record can count.
MOST_PER_MINUTE = 10**15
LONGEST_TIMEOUT_SECONDS = 24 * 3_600

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,47}$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


def _is_address(url: str) -> str:
    """Returns `url`, if requests can be sent to it.

    Raises:
        ValueError: They cannot.
    """
    parts = urlsplit(url)
    # A port, or a name, that is none is found out by reading it.
    if not (parts.hostname or "").encode("idna") or parts.port == 0 or not url.isascii():
        raise ValueError("must have a host, in ASCII")
    if parts.query or parts.fragment:
        raise ValueError("must be the root of an API, without ? and #")
    return url


Address = Annotated[str, Field(pattern=r"^https?://[^\s]+$"), AfterValidator(_is_address)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExtractiveProvider(_Entry):
    """Answers by quoting sentences, through model_svc's Extract."""

    kind: Literal["extractive"]
    embedding_model: str = Field(
        default="", description="Model that compares sentences; empty means model_svc's default."
    )


class HostedProvider(_Entry):
    """Answers through model_svc's Generate, by a model that it runs itself."""

    kind: Literal["hosted"]
    model: str = Field(min_length=1, description="model_svc's own name of the model.")


class Endpoint(_Entry):
    """One place where a model is served, with one key."""

    name: Name = "default"
    base_url: Address = Field(description="Root of the API, e.g. `https://api.openai.com/v1`.")
    api_key_env: Variable | None = Field(
        default=None,
        description="Name of the environment variable that holds the key; none when the endpoint "
        "asks for no key.",
    )


class OpenAIProvider(_Entry):
    """Answers through the chat completions of any OpenAI-compatible endpoint."""

    kind: Literal["openai"]
    base_url: Address | None = Field(default=None, description="As in Endpoint, of the only one.")
    api_key_env: Variable | None = Field(default=None, description="As in Endpoint, of that one.")
    endpoints: tuple[Endpoint, ...] = Field(
        default=(), description="Several places that serve the same model; calls are spread."
    )
    model: str = Field(min_length=1, description="The endpoint's own name of the model.")
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="Field in which the endpoint takes the longest answer. OpenAI itself wants "
        "`max_completion_tokens`; most others know only `max_tokens`.",
    )

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if (self.base_url is None) == (not self.endpoints):
            raise ValueError("give either base_url or endpoints")
        if self.endpoints and self.api_key_env is not None:
            raise ValueError("with endpoints, each has its own api_key_env")
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) < len(names):
            raise ValueError("names of endpoints must be unique")
        return self

    @property
    def places(self) -> tuple[Endpoint, ...]:
        """Where it is served; at least one."""
        if self.base_url is None:
            return self.endpoints
        return (Endpoint(base_url=self.base_url, api_key_env=self.api_key_env),)


class Limits(_Entry):
    """What a model may be asked for."""

    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PER_MINUTE,
        description="By all instances of the router together; none.",
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PER_MINUTE,
        description="Read and written, by all instances together; none.",
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Calls at once, by all instances together; 64 from each of them.",
    )


class Model(_Entry):
    """One model of the catalogue."""

    name: Name
    provider: Annotated[
        ExtractiveProvider | HostedProvider | OpenAIProvider, Field(discriminator="kind")
    ]
    tier: Tier = Tier.BALANCED
    context_window: int = Field(
        ge=1, le=2**31 - 1, description="Tokens that request and answer may have together."
    )
    max_output_tokens: int = Field(ge=1, description="Longest answer, in tokens.")
    image_tokens: int = Field(
        default=1_600, ge=0, le=2**31 - 1, description="Tokens that a picture has at most."
    )
    quality: Share = Field(description="0 to 1, on this catalogue's own scale.")
    quality_by_kind: Mapping[Kind, Share] = Field(
        default_factory=dict, description="The same for kinds of work where it is another."
    )
    capabilities: frozenset[Name] = frozenset()
    languages: tuple[Language, ...] = Field(
        default=(), description="Languages that it knows; none listed means any."
    )
    prices: tuple[Price, ...] = Field(description="Oldest first.")
    limits: Limits = Limits()
    tokenizer: str = Field(
        default=ESTIMATE,
        min_length=1,
        description="`minilm`, the path of a `tokenizer.json`, or `estimate`.",
    )
    fallbacks: tuple[Name, ...] = Field(
        default=(), description="Models to try next when this one fails, in this order."
    )
    timeout_seconds: float = Field(
        default=60, gt=0, le=LONGEST_TIMEOUT_SECONDS, description="Longest time of one try."
    )

    @field_validator("quality_by_kind")
    @classmethod
    def _unchanging(cls, qualities: Mapping[Kind, float]) -> Mapping[Kind, float]:
        return MappingProxyType(dict(qualities))

    @field_validator("fallbacks")
    @classmethod
    def _fallbacks_once(cls, fallbacks: tuple[str, ...]) -> tuple[str, ...]:
        doubled = sorted({name for name in fallbacks if fallbacks.count(name) > 1})
        if doubled:
            raise ValueError(f"names {', '.join(doubled)} more than once")
        return fallbacks

    @field_validator("prices")
    @classmethod
    def _prices_in_order(cls, prices: tuple[Price, ...]) -> tuple[Price, ...]:
        if not prices:
            raise ValueError("there must be at least one price; free is written as 0")
        if any(price.valid_from is None for price in prices[1:]):
            raise ValueError("only the first price may lack valid_from")
        moments = [price.valid_from for price in prices if price.valid_from is not None]
        if any(later <= earlier for earlier, later in pairwise(moments)):
            raise ValueError("valid_from must rise from price to price")
        return prices

    @model_validator(mode="after")
    def _window_holds_answer(self) -> Self:
        if self.max_output_tokens >= self.context_window:
            raise ValueError("max_output_tokens must be below context_window")
        return self

    @property
    def quotes_only(self) -> bool:
        """Whether it can only quote what it is given, and so must be given a text."""
        return isinstance(self.provider, ExtractiveProvider)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it is served; none for a model of model_svc."""
        return self.provider.places if isinstance(self.provider, OpenAIProvider) else ()

    def quality_for(self, kind: Kind | None) -> float:
        """Returns the catalogue's quality for a kind of work; in general for None."""
        return self.quality if kind is None else self.quality_by_kind.get(kind, self.quality)

    def price_at(self, moment: datetime) -> Price | None:
        """Returns the price that holds at `moment`; None before the first."""
        held = None
        for price in self.prices:
            if price.valid_from is None or price.valid_from <= moment:
                held = price
        return held


class Catalogue(_Entry):
    """The models, in the order that breaks ties."""

    models: tuple[Model, ...]

    # Not by Field(min_length=...): pydantic would report faulty models as absent, too.
    @field_validator("models")
    @classmethod
    def _any_models(cls, models: tuple[Model, ...]) -> tuple[Model, ...]:
        if not models:
            raise ValueError("there must be at least one model")
        return models

    def find(self, name: str) -> Model | None:
        """Returns the model called `name`, or None."""
        return next((model for model in self.models if model.name == name), None)
