"""The span of a batch, in the trace of one of its calls, and linked with the others."""

from collections.abc import Sequence

from opentelemetry.trace import Link, Span, Status, StatusCode, set_span_in_context

from model_svc.metrics import BATCH_ITEMS, MODEL
from model_svc.running.line import Item
from stepwire.telemetry import tracer

BATCH_SPAN = "model.batch"


class BatchSpan:
    """A batch that is recorded, since one of its calls is."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @classmethod
    def begin(cls, model: str, batch: Sequence[Item]) -> "BatchSpan | None":
        """Begins the span; None, at no cost, if no call of the batch is recorded."""
        calls = {id(item.call): item.call.span for item in batch if item.call.span is not None}
        if not calls:
            return None
        first, *others = calls.values()
        span = tracer().start_span(
            BATCH_SPAN,
            context=set_span_in_context(first),
            attributes={MODEL: model, BATCH_ITEMS: len(batch)},
            links=[Link(other.get_span_context()) for other in others],
        )
        for call in (first, *others):
            call.add_link(span.get_span_context())
        return cls(span)

    def end(self, errors: Sequence[Exception]) -> None:
        """Ends it, with the first of the errors in it."""
        if errors:
            self._span.set_status(Status(StatusCode.ERROR, str(errors[0])))
        self._span.end()
