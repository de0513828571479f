"""The router's instruments, and the names of its spans' attributes.

The `gen_ai` names are OpenTelemetry's semantic conventions for generative AI.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from router_svc.catalogue.models import Model
from router_svc.catalogue.prices import MICRO_USD_PER_USD
from stepwire.telemetry.names import ERROR_TYPE

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
CACHED_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  (the name of an attribute)
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105  (the name of a metric)
FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
PER_OUTPUT_CHUNK: Final = "gen_ai.client.operation.time_per_output_chunk"
ENDPOINT: Final = "stepwire.router.endpoint"
FAILURE_KIND: Final = "stepwire.router.failure"
BREAKERS: Final = "stepwire.router.breaker.changes"
BREAKERS_OPEN: Final = "stepwire.router.breaker.open"
BREAKER: Final = "stepwire.router.breaker"
BREAKER_STATE: Final = "stepwire.router.breaker.state"
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
_FIRST_BUCKETS: Final = [
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
]
_TOKEN_BUCKETS: Final = [4.0**exponent for exponent in range(14)]
_PROVIDER_NAMES: Final = {
    "openai": "openai",
    "extractive": "stepwire.extractive",
    "hosted": "stepwire.hosted",
}


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
        self._first_chunk = meter.create_histogram(
            FIRST_CHUNK,
            unit="s",
            description="Time until the first piece of a streamed answer.",
            explicit_bucket_boundaries_advisory=_FIRST_BUCKETS,
        )
        self._per_chunk = meter.create_histogram(
            PER_OUTPUT_CHUNK,
            unit="s",
            description="Time per token of a streamed answer, after its first piece.",
            explicit_bucket_boundaries_advisory=_FIRST_BUCKETS,
        )
        self._breakers = meter.create_counter(
            BREAKERS, unit="{change}", description="Openings and closings of breakers."
        )
        self._meter = meter
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

    def tried(self, model: Model, *, seconds: float, error_type: str, used: str) -> None:
        """Records a try.

        Args:
            model: The model asked.
            seconds: How long it took.
            error_type: Why it brought no answer; empty when it did.
            used: The provider's own name of the model that answered; may be empty.
        """
        attributes = attributes_of(model)
        if error_type:
            attributes[ERROR_TYPE] = error_type
        if used:
            attributes[RESPONSE_MODEL] = used
        self._duration.record(seconds, attributes)

    def first_token(self, model: Model, seconds: float) -> None:
        """Records how long the first piece of a stream took."""
        self._first_chunk.record(seconds, attributes_of(model))

    def per_token(self, model: Model, seconds: float) -> None:
        """Records how long each further token of a stream took."""
        self._per_chunk.record(seconds, attributes_of(model))

    def breaker_changed(self, name: str, state: str) -> None:
        """Counts an opening or a closing."""
        self._breakers.add(1, {BREAKER: name, BREAKER_STATE: state})

    def watch_breakers(self, open_by_name: Callable[[], Mapping[str, bool]]) -> None:
        """Shows which breakers are open."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for name, is_open in open_by_name().items():
                yield Observation(int(is_open), {BREAKER: name})

        self._meter.create_observable_gauge(
            BREAKERS_OPEN,
            [observe],
            description="1 while a breaker lets no call through but to try, else 0.",
        )

    def answered(
        self, model: Model, *, input_tokens: int, output_tokens: int, cost_micro_usd: int
    ) -> None:
        """Records what an answer used."""
        attributes = attributes_of(model)
        self._tokens.record(input_tokens, attributes | {TOKEN_TYPE: "input"})
        self._tokens.record(output_tokens, attributes | {TOKEN_TYPE: "output"})
        self._cost.add(cost_micro_usd / MICRO_USD_PER_USD, attributes)
