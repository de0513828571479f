"""Spans and metrics of the calls to providers, by OpenTelemetry's GenAI conventions.

Prompts and answers are recorded only when asked for.
"""

import orjson
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from router_svc import metrics as names
from router_svc.decide.records import Candidate
from router_svc.generate.failures import ProviderFailure
from router_svc.generate.ports import Target
from router_svc.generate.records import Completion
from router_svc.generate.usage import Usage
from router_svc.metrics import RouterMetrics, attributes_of
from router_svc.requests.records import Request
from stepwire.telemetry import tracer
from stepwire.telemetry.names import ERROR_TYPE


class CallTelemetry:
    """Measures calls to providers.

    Args:
        metrics: The instruments.
        record_content: Whether spans hold what was asked and answered.
    """

    def __init__(self, metrics: RouterMetrics, *, record_content: bool) -> None:
        self._metrics = metrics
        self._record_content = record_content

    def begin(
        self, target: Target, request: Request, *, max_output_tokens: int, stream: bool
    ) -> Span:
        """Returns the span of a call, started; it is not made the current one."""
        attributes: dict[str, AttributeValue] = {
            **attributes_of(target.model),
            names.REQUEST_MAX_TOKENS: max_output_tokens,
        }
        if target.endpoint:
            attributes[names.ENDPOINT] = target.endpoint
        if request.temperature is not None:
            attributes[names.REQUEST_TEMPERATURE] = request.temperature
        if request.top_p is not None:
            attributes[names.REQUEST_TOP_P] = request.top_p
        if stream:
            attributes[names.REQUEST_STREAM] = True
        if self._record_content:
            attributes[names.INPUT_MESSAGES] = _messages(request)
        return tracer().start_span(
            f"{names.CHAT} {target.model.name}", kind=SpanKind.CLIENT, attributes=attributes
        )

    def first_token(self, target: Target, seconds: float) -> None:
        """Records how long the first piece of a stream took."""
        self._metrics.first_token(target.model, seconds)

    def answered(
        self,
        span: Span,
        target: Target,
        completion: Completion,
        *,
        seconds: float,
        after_first_seconds: float | None,
    ) -> None:
        """Ends the span of a call that brought an answer."""
        self._metrics.tried(target.model, seconds=seconds, error_type="", used=completion.model)
        written = 0 if completion.usage is None else completion.usage.output_tokens
        if after_first_seconds is not None and written > 1:
            self._metrics.per_token(target.model, after_first_seconds / (written - 1))
        if span.is_recording():
            if completion.model:
                span.set_attribute(names.RESPONSE_MODEL, completion.model)
            if completion.finish.value:
                span.set_attribute(names.FINISH_REASONS, [completion.finish.value])
            if completion.usage is not None:
                span.set_attributes(_usage(completion.usage))
            if self._record_content:
                span.set_attribute(names.OUTPUT_MESSAGES, _said(completion))
        span.end()

    def failed(self, span: Span, target: Target, error: BaseException, *, seconds: float) -> None:
        """Ends the span of a call that brought none."""
        kind = error.kind.value if isinstance(error, ProviderFailure) else type(error).__name__
        status = error.status if isinstance(error, ProviderFailure) else ""
        self._metrics.tried(target.model, seconds=seconds, error_type=status or kind, used="")
        if span.is_recording():
            span.set_attribute(ERROR_TYPE, status or kind)
            span.set_attribute(names.FAILURE_KIND, kind)
            span.set_status(Status(StatusCode.ERROR, str(error)))
        span.end()

    def used(self, candidate: Candidate, usage: Usage, cost_micro_usd: int) -> None:
        """Records the tokens of a call, and what they cost."""
        self._metrics.answered(
            candidate.model,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_micro_usd=cost_micro_usd,
        )


def _usage(usage: Usage) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {
        names.INPUT_TOKENS: usage.input_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
    }
    if usage.cached_input_tokens:
        told[names.CACHED_INPUT_TOKENS] = usage.cached_input_tokens
    if usage.reasoning_tokens:
        told[names.REASONING_TOKENS] = usage.reasoning_tokens
    return told


def _messages(request: Request) -> str:
    return orjson.dumps(
        [
            {"role": each.role.value, "parts": [{"type": "text", "content": each.content}]}
            for each in request.messages
        ]
    ).decode()


def _said(completion: Completion) -> str:
    parts = [{"type": "text", "content": completion.text}]
    parts += [
        {"type": "tool_call", "id": each.id, "name": each.name, "arguments": each.arguments_json}
        for each in completion.tool_calls
    ]
    said = {"role": "assistant", "parts": parts, "finish_reason": completion.finish.value}
    return orjson.dumps([said]).decode()
