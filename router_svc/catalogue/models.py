"""The models that the router may use: what each costs, can do and holds.

Pure types with the rules that one catalogue must keep. `catalogue_file` reads them
from YAML.
"""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MICRO_USD_PER_USD = 1_000_000

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,47}$")]
# Whole millionths of a dollar, so that costs are computed in integers.
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExtractiveProvider(_Entry):
    """Answers by quoting sentences, through model_svc's Extract."""

    kind: Literal["extractive"]
    embedding_model: str = Field(
        default="", description="Model that compares sentences; empty means model_svc's default."
    )


class OpenAIProvider(_Entry):
    """Answers through the chat completions of any OpenAI-compatible endpoint."""

    kind: Literal["openai"]
    base_url: str = Field(
        pattern=r"^https?://[^\s]+$",
        description="Root of the API, e.g. `https://api.openai.com/v1`.",
    )
    api_key_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds the key; none when the endpoint "
        "asks for no key.",
    )
    model: str = Field(min_length=1, description="The endpoint's own name of the model.")
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="Field in which the endpoint takes the longest answer. OpenAI itself wants "
        "`max_completion_tokens`; most others know only `max_tokens`.",
    )


class Model(_Entry):
    """One model of the catalogue.

    Prices have no default: a model whose price nobody wrote down would look free.
    """

    name: Name
    provider: Annotated[ExtractiveProvider | OpenAIProvider, Field(discriminator="kind")]
    context_window: int = Field(
        ge=1, le=2**31 - 1, description="Tokens that request and answer may have together."
    )
    max_output_tokens: int = Field(ge=1, description="Longest answer, in tokens.")
    quality: float = Field(ge=0, le=1, description="0 to 1, on this catalogue's own scale.")
    capabilities: frozenset[Name] = frozenset()
    input_usd_per_million_tokens: Price
    output_usd_per_million_tokens: Price
    fallbacks: tuple[Name, ...] = Field(
        default=(), description="Models to try next when this one fails, in this order."
    )
    timeout_seconds: float = Field(default=60, gt=0, description="Longest time of one try.")
    max_in_flight: int = Field(
        default=64, ge=1, description="Calls to it at the same time, from this process."
    )

    @field_validator("fallbacks")
    @classmethod
    def _fallbacks_once(cls, fallbacks: tuple[str, ...]) -> tuple[str, ...]:
        doubled = sorted({name for name in fallbacks if fallbacks.count(name) > 1})
        if doubled:
            raise ValueError(f"names {', '.join(doubled)} more than once")
        return fallbacks

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
    def input_price_micro_usd(self) -> int:
        """Price of a million input tokens, in millionths of a US dollar."""
        return int(self.input_usd_per_million_tokens * MICRO_USD_PER_USD)

    @property
    def output_price_micro_usd(self) -> int:
        """Price of a million output tokens, in millionths of a US dollar."""
        return int(self.output_usd_per_million_tokens * MICRO_USD_PER_USD)

    def cost_micro_usd(self, *, input_tokens: int, output_tokens: int) -> int:
        """Returns what so many tokens cost, in millionths of a US dollar, rounded up."""
        total = (
            input_tokens * self.input_price_micro_usd + output_tokens * self.output_price_micro_usd
        )
        return -(-total // 1_000_000)


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
