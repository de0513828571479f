"""The service's instruments, and the names of its spans' attributes."""

from typing import Final

from opentelemetry.metrics import Histogram, Meter

from model_svc.running.statistics import Statistics

MODEL: Final = "stepwire.model"
VERSION: Final = "stepwire.model.version"
DEVICE: Final = "stepwire.model.device"
TEXTS: Final = "stepwire.model.texts"
TOKENS: Final = "stepwire.model.tokens"
BATCH_ITEMS: Final = "stepwire.model.batch.items"
BATCH_FILL: Final = "stepwire.model.batch.fill"
BATCH_TOKENS: Final = "stepwire.model.batch.tokens"
BATCH_PADDED_TOKENS: Final = "stepwire.model.batch.padded_tokens"
BATCH_DURATION: Final = "stepwire.model.batch.duration"
BATCH_FAILURES: Final = "stepwire.model.batch.failures"
QUEUE_DURATION: Final = "stepwire.model.queue.duration"
CACHE_CALLS: Final = "stepwire.model.cache.calls"
CACHE_OUTCOME: Final = "stepwire.model.cache.outcome"

# In seconds, in texts or calls, in tokens, and as a part of 1.
_DURATION_BUCKETS: Final = [
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
]
_ITEM_BUCKETS: Final = [2.0**exponent for exponent in range(11)]
_TOKEN_BUCKETS: Final = [2.0**exponent for exponent in range(3, 16)]
_FILL_BUCKETS: Final = [tenth / 10 for tenth in range(1, 11)]


class ModelMetrics:
    """A `BatchObserver` that measures one version of a model.

    Attributes:
        statistics: The same in numbers, for those who ask the service.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        model: str,
        version: str,
        reads_text: bool,
    ) -> None:
        """Measures nothing yet.

        Args:
            meter: Makes the instruments.
            model: The model's name.
            version: Its version.
            reads_text: Whether its batches are counted in tokens.
        """
        self.statistics = Statistics()
        self._attributes = {MODEL: model, VERSION: version}
        self._reads_text = reads_text
        self._items = _histogram(
            meter, BATCH_ITEMS, "{item}", "Texts, or calls, that ran together.", _ITEM_BUCKETS
        )
        self._fill = _histogram(
            meter, BATCH_FILL, "1", "Size of the batches, as a part of the largest.", _FILL_BUCKETS
        )
        self._tokens = _histogram(
            meter,
            BATCH_TOKENS,
            "{token}",
            "Tokens that ran together, without padding.",
            _TOKEN_BUCKETS,
        )
        self._padded = meter.create_counter(
            BATCH_PADDED_TOKENS,
            unit="{token}",
            description="Tokens of the batches, padding included.",
        )
        self._duration = _histogram(
            meter, BATCH_DURATION, "s", "Time of one run of a batch.", _DURATION_BUCKETS
        )
        self._queue = _histogram(
            meter,
            QUEUE_DURATION,
            "s",
            "Longest time that an item of a batch waited for it.",
            _DURATION_BUCKETS,
        )
        self._failures = meter.create_counter(
            BATCH_FAILURES, unit="{batch}", description="Batches that failed, or a part of them."
        )
        self._cache = meter.create_counter(
            CACHE_CALLS, unit="{call}", description="Calls that the response cache was asked for."
        )

    def batch_ran(
        self,
        *,
        items: int,
        size: int,
        padded_size: int,
        full: int,
        wait_seconds: float,
        seconds: float,
        device: str,
        failed: bool,
    ) -> None:
        """See `BatchObserver`."""
        attributes = {**self._attributes, DEVICE: device}
        self.statistics.batch_ran(items if self._reads_text else size, seconds)
        self._items.record(items, attributes)
        if full:
            self._fill.record(padded_size / full, attributes)
        if self._reads_text:
            self._tokens.record(size, attributes)
            self._padded.add(padded_size, attributes)
        self._queue.record(wait_seconds, attributes)
        self._duration.record(seconds, attributes)
        if failed:
            self._failures.add(1, attributes)

    def cache_hit(self, seconds: float) -> None:
        """The cache answered a call."""
        self.statistics.cache_hit(seconds)
        self._cache.add(1, {**self._attributes, CACHE_OUTCOME: "hit"})

    def cache_missed(self, seconds: float) -> None:
        """The cache had no answer."""
        self.statistics.cache_missed(seconds)
        self._cache.add(1, {**self._attributes, CACHE_OUTCOME: "miss"})


def _histogram(
    meter: Meter, name: str, unit: str, description: str, buckets: list[float]
) -> Histogram:
    return meter.create_histogram(
        name, unit=unit, description=description, explicit_bucket_boundaries_advisory=buckets
    )
