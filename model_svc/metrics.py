"""The service's instruments, and the names of its spans' attributes."""

from typing import Final

from opentelemetry.metrics import Meter

MODEL: Final = "stepwire.model"
TEXTS: Final = "stepwire.model.texts"
TOKENS: Final = "stepwire.model.tokens"
BATCH_TEXTS: Final = "stepwire.model.batch.texts"
BATCH_TOKENS: Final = "stepwire.model.batch.tokens"
BATCH_PADDED_TOKENS: Final = "stepwire.model.batch.padded_tokens"
BATCH_DURATION: Final = "stepwire.model.batch.duration"
QUEUE_DURATION: Final = "stepwire.model.queue.duration"

# In seconds, in texts and in tokens.
_DURATION_BUCKETS: Final = [
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
]
_TEXT_BUCKETS: Final = [2.0**exponent for exponent in range(11)]
_TOKEN_BUCKETS: Final = [2.0**exponent for exponent in range(3, 16)]


class ModelMetrics:
    """A `BatchObserver` that measures one model's batches."""

    def __init__(self, meter: Meter, model: str) -> None:
        self._attributes = {MODEL: model}
        self._texts = meter.create_histogram(
            BATCH_TEXTS,
            unit="{text}",
            description="Texts that ran together.",
            explicit_bucket_boundaries_advisory=_TEXT_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            BATCH_TOKENS,
            unit="{token}",
            description="Tokens that ran together, without padding.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )
        self._padded = meter.create_counter(
            BATCH_PADDED_TOKENS,
            unit="{token}",
            description="Tokens of the batches, padding included.",
        )
        self._duration = meter.create_histogram(
            BATCH_DURATION,
            unit="s",
            description="Time of one run of a batch.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )
        self._queue = meter.create_histogram(
            QUEUE_DURATION,
            unit="s",
            description="Longest time that a text of a batch waited for it.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )

    def batch_ran(
        self, *, texts: int, tokens: int, padded_tokens: int, wait_seconds: float, seconds: float
    ) -> None:
        """See `BatchObserver`."""
        self._texts.record(texts, self._attributes)
        self._tokens.record(tokens, self._attributes)
        self._padded.add(padded_tokens, self._attributes)
        self._queue.record(wait_seconds, self._attributes)
        self._duration.record(seconds, self._attributes)
