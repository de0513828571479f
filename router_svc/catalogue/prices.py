"""What tokens cost, from when on. Computed in integers: millionths of a US dollar."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

MICRO_USD_PER_USD = 1_000_000
TOKENS_PER_PRICE = 1_000_000

# Whole millionths of a dollar, so that costs are computed in integers.
Rate = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class Price(BaseModel):
    """What a million tokens cost from a moment on.

    Rates of input and output have no default: a model whose price nobody wrote down
    would look free.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    valid_from: datetime | None = Field(
        default=None, description="From when on it holds, UTC unless it says otherwise; always."
    )
    input_usd_per_million_tokens: Rate
    output_usd_per_million_tokens: Rate
    cached_input_usd_per_million_tokens: Rate | None = Field(
        default=None, description="Of input from the provider's cache; as other input."
    )
    reasoning_usd_per_million_tokens: Rate | None = Field(
        default=None, description="Of output that is reasoning; as other output."
    )

    @field_validator("valid_from", mode="before")
    @classmethod
    def _no_number(cls, moment: object) -> object:
        # A number would be read as seconds since 1970: 2027 as a price that holds already.
        if isinstance(moment, int | float):
            raise ValueError("must be a date, such as 2027-01-01")  # noqa: TRY004  (pydantic's)
        return moment

    @field_validator("valid_from")
    @classmethod
    def _with_zone(cls, moment: datetime | None) -> datetime | None:
        return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment

    @cached_property
    def input_micro_usd(self) -> int:
        """Of a million tokens read."""
        return _micro(self.input_usd_per_million_tokens)

    @cached_property
    def output_micro_usd(self) -> int:
        """Of a million tokens written."""
        return _micro(self.output_usd_per_million_tokens)

    @cached_property
    def cached_input_micro_usd(self) -> int:
        """Of a million tokens read from the provider's cache."""
        rate = self.cached_input_usd_per_million_tokens
        return self.input_micro_usd if rate is None else _micro(rate)

    @cached_property
    def reasoning_micro_usd(self) -> int:
        """Of a million tokens of reasoning."""
        rate = self.reasoning_usd_per_million_tokens
        return self.output_micro_usd if rate is None else _micro(rate)

    def cost_micro_usd(
        self,
        input_tokens: int,
        output_tokens: int,
        *,
        cached_input_tokens: int = 0,
        reasoning_tokens: int = 0,
    ) -> int:
        """Returns what tokens cost, in millionths of a US dollar, rounded up.

        Parts that are larger than their whole, as a faulty provider may report them,
        count as the whole.

        Args:
            input_tokens: Those read.
            output_tokens: Those written.
            cached_input_tokens: Those of the tokens read that came from a cache.
            reasoning_tokens: Those of the tokens written that were reasoning.
        """
        cached = min(cached_input_tokens, input_tokens)
        reasoning = min(reasoning_tokens, output_tokens)
        total = (
            (input_tokens - cached) * self.input_micro_usd
            + cached * self.cached_input_micro_usd
            + (output_tokens - reasoning) * self.output_micro_usd
            + reasoning * self.reasoning_micro_usd
        )
        return -(-total // TOKENS_PER_PRICE)

    def worst_micro_usd(self, *, input_tokens: int, output_tokens: int) -> int:
        """Returns the highest cost that so many tokens can have, of whatever sort they are."""
        dearest_in = max(self.input_micro_usd, self.cached_input_micro_usd)
        dearest_out = max(self.output_micro_usd, self.reasoning_micro_usd)
        return -(-(input_tokens * dearest_in + output_tokens * dearest_out) // TOKENS_PER_PRICE)


def _micro(rate: Decimal) -> int:
    return int(rate * MICRO_USD_PER_USD)
