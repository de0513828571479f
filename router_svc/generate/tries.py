"""Makes one try: takes what it needs, calls the provider within its time, gives all back."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from opentelemetry.trace import Span, use_span

from router_svc.decide.filters import output_tokens
from router_svc.decide.records import Candidate
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.means import Asked, Means, OutOfTimeError
from router_svc.generate.ports import (
    Lease,
    Permit,
    Reservation,
    Slot,
    Target,
)
from router_svc.generate.records import Completion, Delta, UsageEntry
from router_svc.generate.schemas import hold_against_schema
from router_svc.generate.usage import Usage

_logger = logging.getLogger(__name__)

# Kept back from the call's deadline, so that the caller learns which models failed
# before the server ends the call.
ANSWER_SECONDS = 0.02

ANSWERED = "answered"
_NOTHING = Usage(0, 0)


class Try:
    """One call of one provider, for which all that it needs is held.

    To be made by `open_try`, and then used by exactly one of `complete` and `stream`.
    """

    def __init__(
        self,
        asked: Asked,
        candidate: Candidate,
        means: Means,
        *,
        target: Target,
        permit: Permit,
        reservation: Reservation,
        lease: Lease,
    ) -> None:
        self.candidate = candidate
        self.target = target
        self.usage = _NOTHING
        """What was used, once it has ended."""
        self.cost_micro_usd = 0
        self._asked = asked
        self._permit = permit
        self._reservation = reservation
        self._lease = lease
        self._slot: Slot | None = None
        self._means = means
        self._max_output = output_tokens(candidate.model, asked.request)
        self._started = means.clock()
        self._begun = False
        self._called = False
        self._first: float | None = None
        self._said: list[str] = []
        # What a provider said that it used without an answer.
        self._told: Usage | None = None

    def abandon(self) -> None:
        """Gives all that is held back, if it was never used."""
        if self._begun:
            return
        self._begun = True
        self._permit.released()
        self._lease.release()
        self._reservation.release()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return self._means.clock() - self._started

    async def complete(self) -> Completion:
        """Returns the provider's answer.

        Raises:
            ProviderFailure: There is none.
            OutOfTimeError: The call's deadline passed first.
        """
        span = self._begin(stream=False)
        completion: Completion | None = None
        outcome = "cancelled"
        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                # Waiting for room counts: a model that is full is as good as slow.
                async with self._time(), self._room():
                    completion = await self.target.provider.complete(
                        self._asked.request, max_output_tokens=self._max_output
                    )
            hold_against_schema(self._asked.request, completion)
            outcome = self._answered(completion, span)
        except BaseException as error:
            outcome = self._failed(error, span)
            raise
        finally:
            self._settle(completion, outcome)
        return completion

    async def stream(self) -> AsyncGenerator[Delta]:
        """Yields the provider's answer as it comes; the last piece has the end.

        Raises:
            ProviderFailure: There is none, or it broke off.
            OutOfTimeError: The call's deadline passed first.
        """
        span = self._begin(stream=True)
        completion: Completion | None = None
        outcome = "cancelled"
        try:
            async with self._room_in_time(), aclosing(self._pieces(span)) as pieces:
                async for delta in pieces:
                    completion = delta.end or completion
                    if completion is None:
                        self._note(delta)
                        if delta.text or delta.tool_call:
                            yield delta
            hold_against_schema(self._asked.request, _whole(completion))
            outcome = self._answered(_whole(completion), span)
        except BaseException as error:
            outcome = self._failed(error, span)
            raise
        finally:
            self._settle(completion, outcome)
        yield Delta(end=completion)

    async def _pieces(self, span: Span) -> AsyncGenerator[Delta]:
        """Yields what the provider sends, each piece within the time that is left."""
        stream = self.target.provider.stream(
            self._asked.request, max_output_tokens=self._max_output
        )
        async with aclosing(stream):
            while True:
                with use_span(span, record_exception=False, set_status_on_exception=False):
                    async with self._time():
                        delta = await anext(stream, None)
                if delta is None:
                    return
                yield delta

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        self._slot = await self._means.limits.slot(self.candidate.model)
        try:
            self._called = True
            yield
        finally:
            self._slot.release()
            self._slot = None

    @asynccontextmanager
    async def _room_in_time(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            async with self._time():
                await stack.enter_async_context(self._room())
            yield

    @asynccontextmanager
    async def _time(self) -> AsyncIterator[None]:
        """Bounds the block by the model's timeout, its slot's and the call's deadline."""
        deadline, timeout = self._asked.deadline, self.candidate.model.timeout_seconds
        now = self._means.clock()
        left = float("inf") if deadline is None else deadline - now - ANSWER_SECONDS
        if left <= 0:
            raise OutOfTimeError
        kept = float("inf") if self._slot is None else self._slot.seconds_left
        if kept <= 0:
            raise _lost_slot()
        scope = asyncio.timeout(min(left, timeout, kept))
        try:
            async with scope:
                yield
        except TimeoutError as error:
            if not scope.expired():
                raise
            if left <= min(timeout, kept):
                raise OutOfTimeError from error
            if kept < timeout:
                raise _lost_slot() from error
            what = "answer" if self._called else "room for another call"
            raise ProviderFailure(
                FailureKind.TIMEOUT,
                f"no {what} within {timeout:g} s",
                status="timeout",
                called=self._called,
            ) from error

    def _begin(self, *, stream: bool) -> Span:
        self._begun = True
        self._started = self._means.clock()
        return self._means.telemetry.begin(
            self.target, self._asked.request, max_output_tokens=self._max_output, stream=stream
        )

    def _note(self, delta: Delta) -> None:
        """Remembers what has come, for the account of a stream that does not reach its end."""
        if self._first is None:
            self._first = self.seconds
            self._means.telemetry.first_token(self.target, self._first)
        self._said += (delta.text, delta.unsaid)

    def _answered(self, completion: Completion, span: Span) -> str:
        seconds = self.seconds
        self._permit.succeeded(seconds)
        after_first = None if self._first is None else seconds - self._first
        self._means.telemetry.answered(
            span, self.target, completion, seconds=seconds, after_first_seconds=after_first
        )
        return ANSWERED

    def _failed(self, error: BaseException, span: Span) -> str:
        self._means.telemetry.failed(span, self.target, error, seconds=self.seconds)
        if not isinstance(error, ProviderFailure):
            # The caller's time, or the caller: it says nothing of the provider.
            self._permit.released()
            return "out_of_time" if isinstance(error, OutOfTimeError) else "cancelled"
        self._told = error.usage
        if error.called:
            self._permit.failed(error)
        else:
            # It was full, here, or the request is not for it: no reason to leave it alone.
            self._permit.released()
        _logger.warning(
            "a model did not answer",
            extra={
                "model": self.candidate.model.name,
                "endpoint": self.target.endpoint,
                "kind": error.kind.value,
                "why": str(error),
            },
        )
        return error.kind.value

    def _settle(self, completion: Completion | None, outcome: str) -> None:
        """Gives back what was held and not used, and accounts for the rest."""
        self.usage = self._used(completion)
        self.cost_micro_usd = self.candidate.price.cost_micro_usd(
            self.usage.input_tokens,
            self.usage.output_tokens,
            cached_input_tokens=self.usage.cached_input_tokens,
            reasoning_tokens=self.usage.reasoning_tokens,
        )
        self._lease.settle(self.usage.total)
        if self.usage.total:
            self._means.telemetry.used(self.candidate, self.usage, self.cost_micro_usd)
        self._reservation.settle(
            UsageEntry(
                caller=self._asked.caller,
                decision=self._asked.decision,
                model=self.candidate.model,
                endpoint=self.target.endpoint,
                usage=self.usage,
                cost_micro_usd=self.cost_micro_usd,
                seconds=self.seconds,
                first_token_seconds=self._first,
                outcome=outcome,
            )
        )

    def _used(self, completion: Completion | None) -> Usage:
        """Returns what the provider says it used, or an estimate of what has come."""
        told = self._told if completion is None else completion.usage
        if told is not None:
            return told
        # Of a stream all that came, thoughts included, be it whole or not.
        said = self._said
        if completion is not None and not said:
            calls = (each.arguments_json for each in completion.tool_calls)
            said = [completion.text, completion.unsaid, *calls]
        if completion is None and not any(said):
            return _NOTHING
        tokenizer = self.candidate.model.tokenizer
        return Usage(
            self.candidate.input_tokens,
            self._means.count(tokenizer, "".join(said)),
            estimated=True,
        )


async def open_try(
    asked: Asked, candidate: Candidate, means: Means, *, avoid: Sequence[str] = ()
) -> Try:
    """Returns a try for which a place, money and room are held.

    Args:
        asked: What is asked.
        candidate: The model.
        means: Where all that comes from.
        avoid: Endpoints to take only when there is no other.

    Raises:
        ProviderFailure: The model rests, is limited, or is too dear; nothing is held then.
        StepwireError: A budget allows no model.
    """
    model = candidate.model
    target, permit = means.targets.take(model, avoid=avoid)
    try:
        tokens = candidate.input_tokens + output_tokens(model, asked.request)
        lease = await means.limits.lease(asked.caller, model, tokens=tokens)
        try:
            reservation = await means.budgets.reserve(
                asked.caller, model, worst_micro_usd=candidate.worst_cost_micro_usd
            )
        except BaseException:
            lease.release()
            raise
    except BaseException:
        permit.released()
        raise
    return Try(
        asked,
        candidate,
        means,
        target=target,
        permit=permit,
        reservation=reservation,
        lease=lease,
    )


def _lost_slot() -> ProviderFailure:
    # No fault of the provider's, who is not to be blamed for it.
    message = "its slot could not be kept while it went on"
    return ProviderFailure(FailureKind.TIMEOUT, message, called=False)


def _whole(completion: Completion | None) -> Completion:
    if completion is None:
        raise ProviderFailure(FailureKind.NONSENSE, "the stream has no end")
    return completion
