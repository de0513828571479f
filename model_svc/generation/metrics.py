"""What is measured of the texts that a model writes, beside its runs."""

from typing import Final

from opentelemetry.metrics import Meter

from model_svc.generation.records import Ended
from model_svc.metrics import MODEL, VERSION

GENERATE_CALLS: Final = "stepwire.model.generate.calls"
GENERATE_TOKENS: Final = "stepwire.model.generate.tokens"
FIRST_TOKEN_DURATION: Final = "stepwire.model.generate.first_token.duration"  # noqa: S105 - no password
OUTCOME: Final = "stepwire.model.generate.outcome"
TOKEN_KIND: Final = "stepwire.model.generate.token_kind"  # noqa: S105

_ABANDONED: Final = "abandoned"
_FAILED: Final = "failed"
# In seconds: a short prompt of a small model, up to a long one of a large model.
_BUCKETS: Final = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]


class GenerationMetrics:
    """Measures one version of a model."""

    def __init__(self, meter: Meter, *, model: str, version: str) -> None:
        """Measures nothing yet."""
        self._attributes = {MODEL: model, VERSION: version}
        self._calls = meter.create_counter(
            GENERATE_CALLS, unit="{call}", description="Texts that were to be written, by outcome."
        )
        self._tokens = meter.create_counter(
            GENERATE_TOKENS, unit="{token}", description="Tokens read and written for them."
        )
        self._first = meter.create_histogram(
            FIRST_TOKEN_DURATION,
            unit="s",
            description="Time until the first token of a text was there.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )

    def read(self, tokens: int) -> None:
        """A prompt was read."""
        self._tokens.add(tokens, {**self._attributes, TOKEN_KIND: "input"})

    def wrote(self, seconds: float | None) -> None:
        """A token was written.

        Args:
            seconds: Since the call began, of its first token; None for others.
        """
        self._tokens.add(1, {**self._attributes, TOKEN_KIND: "output"})
        if seconds is not None:
            self._first.record(seconds, self._attributes)

    def ended(self, end: Ended) -> None:
        """A text was written to its end."""
        self._call(end.finish.value)

    def broken_off(self, error: BaseException) -> None:
        """A text was not written to its end: the caller went away, or something failed."""
        self._call(_FAILED if isinstance(error, Exception) else _ABANDONED)

    def _call(self, outcome: str) -> None:
        self._calls.add(1, {**self._attributes, OUTCOME: outcome})
