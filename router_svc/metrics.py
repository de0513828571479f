"""The router's instruments, and the names of its spans' attributes.

The `gen_ai` names are OpenTelemetry's semantic conventions for generative AI.
"""

from typing import Final

from opentelemetry.metrics import Meter

from router_svc.catalogue.models import Model
from router_svc.catalogue.prices import MICRO_USD_PER_USD
from stepwire.telemetry.names import ERROR_TYPE

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  (the name of an attribute)
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105  (the name of a metric)
DECISIONS: Final = "stepwire.router.decisions"
COST: Final = "stepwire.router.cost"
OUTCOME: Final = "stepwire.router.outcome"
CATALOGUE_READS: Final = "stepwire.router.catalogue.reads"

CHAT: Final = "chat"
# The conventions' own bounds, in seconds and in tokens.
_DURATION_BUCKETS: Final = [
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
    *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
]
_TOKEN_BUCKETS: Final = [4.0**exponent for exponent in range(14)]
_PROVIDER_NAMES: Final = {"openai": "openai", "extractive": "stepwire.extractive"}


def attributes_of(model: Model) -> dict[str, str]:
    """Returns what spans and metrics say about a call to `model`."""
    return {
        OPERATION_NAME: CHAT,
        PROVIDER_NAME: _PROVIDER_NAMES[model.provider.kind],
        REQUEST_MODEL: model.name,
    }


class RouterMetrics:
    """Counts decisions, and measures the calls to providers."""

    def __init__(self, meter: Meter) -> None:
        self._duration = meter.create_histogram(
            OPERATION_DURATION,
            unit="s",
            description="Time of one try with one model.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            TOKEN_USAGE,
            unit="{token}",
            description="Tokens read and written by one answer.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )
        self._decisions = meter.create_counter(
            DECISIONS, unit="{decision}", description="Decisions, by the model chosen."
        )
        self._cost = meter.create_counter(
            COST,
            unit="{USD}",
            description="Cost of the answers by the catalogue's prices, in US dollars.",
        )

        self._reads = meter.create_counter(
            CATALOGUE_READS,
            unit="{read}",
            description="Changed catalogues, by whether they were taken or refused.",
        )

    def catalogue_read(self, taken: bool) -> None:  # noqa: FBT001  (the holder's callback)
        """Counts a changed catalogue that was taken or refused."""
        self._reads.add(1, {OUTCOME: "taken" if taken else "refused"})

    def decided(self, *, model: str, outcome: str) -> None:
        """Counts a decision: `outcome` is `chosen`, or the reason of a refusal."""
        self._decisions.add(1, {REQUEST_MODEL: model, OUTCOME: outcome})

    def tried(self, model: Model, *, seconds: float, error_type: str) -> None:
        """Records a try; `error_type` is empty when it brought an answer."""
        attributes = attributes_of(model)
        if error_type:
            attributes[ERROR_TYPE] = error_type
        self._duration.record(seconds, attributes)

    def answered(
        self, model: Model, *, input_tokens: int, output_tokens: int, cost_micro_usd: int
    ) -> None:
        """Records what an answer used."""
        attributes = attributes_of(model)
        self._tokens.record(input_tokens, attributes | {TOKEN_TYPE: "input"})
        self._tokens.record(output_tokens, attributes | {TOKEN_TYPE: "output"})
        self._cost.add(cost_micro_usd / MICRO_USD_PER_USD, attributes)
