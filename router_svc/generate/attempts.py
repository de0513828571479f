"""Makes one try with one model: bounded in time and number, measured, remembered."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from router_svc import metrics as names
from router_svc.breakers.cooldowns import Cooldowns
from router_svc.catalogue.models import Catalogue, Model
from router_svc.decide.filters import output_tokens
from router_svc.decide.records import Standing
from router_svc.generate.ports import Completion, FailureKind, Provider, ProviderFailure
from router_svc.metrics import RouterMetrics, attributes_of
from router_svc.requests.records import Request
from stepwire.telemetry import tracer
from stepwire.telemetry.names import ERROR_TYPE

_logger = logging.getLogger(__name__)

# Kept back from the call's deadline, so that the caller learns which models failed
# before the server ends the call.
ANSWER_SECONDS = 0.02


class OutOfTimeError(Exception):
    """The call's deadline has passed."""


class Attempts:
    """The models as they are called from this process.

    Args:
        catalogue: The models.
        providers: How to call each of them, by name.
        cooldowns: Remembers which models failed lately.
        metrics: Where tries are measured.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        providers: Mapping[str, Provider],
        cooldowns: Cooldowns,
        metrics: RouterMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._providers = providers
        self._cooldowns = cooldowns
        self._metrics = metrics
        self._clock = clock
        self._slots = {
            model.name: asyncio.Semaphore(model.limits.concurrency) for model in catalogue.models
        }

    def of(self, model: Model) -> Standing:
        """Returns how `model` stands now."""
        is_resting = model.name in self._cooldowns.resting()
        return Standing(resting="it is left to rest after failures" if is_resting else "")

    async def make(self, model: Model, request: Request, *, deadline: float | None) -> Completion:
        """Makes one try, within the model's timeout and the call's deadline.

        Args:
            model: The model to call.
            request: The request.
            deadline: When the caller stops waiting, on the clock given; None for never.

        Raises:
            ProviderFailure: The model gave no answer, or rests.
            OutOfTimeError: The call's deadline passed.
        """
        self._cooldowns.check(model.name)
        try:
            completion = await self._measured(model, request, deadline)
        except ProviderFailure as failure:
            _logger.warning(
                "a model did not answer",
                extra={"model": model.name, "kind": failure.kind.value, "why": str(failure)},
            )
            if failure.kind in (FailureKind.UNAVAILABLE, FailureKind.MISCONFIGURED):
                self._cooldowns.failed(model.name, failure)
            raise
        self._cooldowns.succeeded(model.name)
        return completion

    async def _measured(self, model: Model, request: Request, deadline: float | None) -> Completion:
        longest = output_tokens(model, request)
        attributes: dict[str, AttributeValue] = {
            **attributes_of(model),
            names.REQUEST_MAX_TOKENS: longest,
        }
        if request.temperature is not None:
            attributes[names.REQUEST_TEMPERATURE] = request.temperature
        started = self._clock()
        error_type = ""
        with tracer().start_as_current_span(
            f"{names.CHAT} {model.name}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                completion = await self._timed(model, request, deadline)
            except BaseException as error:
                error_type = (
                    (error.status or error.kind.value)
                    if isinstance(error, ProviderFailure)
                    else type(error).__name__
                )
                span.set_attribute(ERROR_TYPE, error_type)
                span.set_status(Status(StatusCode.ERROR, str(error)))
                raise
            finally:
                self._metrics.tried(model, seconds=self._clock() - started, error_type=error_type)
            if completion.usage is not None:
                span.set_attribute(names.INPUT_TOKENS, completion.usage.input_tokens)
                span.set_attribute(names.OUTPUT_TOKENS, completion.usage.output_tokens)
            return completion

    async def _timed(self, model: Model, request: Request, deadline: float | None) -> Completion:
        left = float("inf") if deadline is None else deadline - self._clock() - ANSWER_SECONDS
        if left <= 0:
            raise OutOfTimeError
        # Waiting for a slot counts: a model that is full is as good as slow.
        scope = asyncio.timeout(min(left, model.timeout_seconds))
        try:
            async with scope, self._slots[model.name]:
                return await self._providers[model.name].complete(
                    request, max_output_tokens=output_tokens(model, request)
                )
        except TimeoutError as error:
            if not scope.expired():
                raise
            if left <= model.timeout_seconds:
                raise OutOfTimeError from error
            raise ProviderFailure(
                FailureKind.UNAVAILABLE,
                f"no answer within {model.timeout_seconds:g} s",
                status="timeout",
            ) from error
