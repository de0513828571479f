"""Generates: decides, tries models in turn, accounts for the answer."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from router_svc.decide.records import Candidate
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.hedge import HedgeBudget, first_answer
from router_svc.generate.means import Asked, Means, OutOfTimeError
from router_svc.generate.outcome import (
    after_failures,
    broke_off,
    exhausted,
    out_of_time,
    refused,
)
from router_svc.generate.ports import Decider, Observer
from router_svc.generate.records import Answer, Caller, Completion, FailedTry, Piece
from router_svc.generate.route import NextTry, RetryRules, Route
from router_svc.generate.schemas import corrected
from router_svc.generate.tries import ANSWER_SECONDS, Try, open_try
from router_svc.requests.records import Request
from stepwire.call import current_call


@dataclass(slots=True)
class _Course:
    """One Generate under way."""

    asked: Asked
    route: Route
    failed: list[FailedTry] = field(default_factory=list)


class Router:
    """Answers requests.

    Args:
        decider: Says which models may answer.
        means: What tries are made with.
        rules: How often, and with which waits, models are tried.
        observer: Learns from what became of decisions.
        hedging: How many calls may have a second one beside them.
    """

    def __init__(
        self,
        *,
        decider: Decider,
        means: Means,
        rules: RetryRules,
        observer: Observer,
        hedging: HedgeBudget,
    ) -> None:
        self._decider = decider
        self._means = means
        self._rules = rules
        self._observer = observer
        self._hedging = hedging

    async def generate(self, request: Request, *, deadline: float | None) -> Answer:
        """Returns the answer of the first model that gives one.

        Args:
            request: The request.
            deadline: When the caller stops waiting, on the router's clock; None for
                never.

        Raises:
            StepwireError: As the decider; PROVIDER_REJECTED when a provider refuses the
                request for good; MODELS_EXHAUSTED when every model failed;
                DEADLINE_EXCEEDED when the time ended first.
        """
        course = await self._begin(request, deadline)
        while True:
            attempt = await self._next(course)
            if attempt is None:
                continue
            self._hedging.called()
            try:
                winner, completion = await self._hedged(course, attempt)
            except ProviderFailure as failure:
                self._note(course, attempt, failure)
            except OutOfTimeError:
                self._observe(course, None)
                raise out_of_time(course.failed) from None
            else:
                return await self._finish(course, winner, completion)

    async def stream(self, request: Request, *, deadline: float | None) -> AsyncGenerator[Piece]:
        """Yields the answer as it comes; the last piece has its account.

        Until the first piece, models are tried in turn as `generate` does. A stream that
        breaks off later is not begun again: the caller has seen its beginning.

        Raises:
            StepwireError: As `generate`; PROVIDER_UNAVAILABLE when the answer broke off.
        """
        course = await self._begin(request, deadline)
        while True:
            attempt = await self._next(course)
            if attempt is None:
                continue
            begun = False
            try:
                async with aclosing(attempt.stream()) as deltas:
                    async for delta in deltas:
                        if delta.end is not None:
                            answer = await self._finish(course, attempt, delta.end)
                            yield Piece(end=answer)
                            return
                        begun = True
                        yield Piece(text=delta.text, tool_call=delta.tool_call)
            except ProviderFailure as failure:
                self._note(course, attempt, failure)
                if begun:
                    self._observe(course, None)
                    raise broke_off(course.failed) from failure
            except OutOfTimeError:
                self._observe(course, None)
                raise out_of_time(course.failed) from None

    async def _begin(self, request: Request, deadline: float | None) -> _Course:
        decision = await self._decider.decide(request)
        asked = Asked(request, caller_of(request), decision, deadline)
        return _Course(asked, Route(decision.tries, self._rules))

    async def _next(self, course: _Course) -> Try | None:
        """Returns the next try; None when the model chosen could not be called.

        Raises:
            StepwireError: No model is left to be tried.
        """
        step = course.route.next(now=self._means.clock())
        if step is None or not self._worth_waiting(course, step):
            self._observe(course, None)
            raise self._end(course)
        if step.wait_seconds > 0:
            await asyncio.sleep(step.wait_seconds)
        asked, candidate = course.asked, step.candidate
        if (wrong := _off_schema(course.failed, candidate)) is not None:
            request, candidate = corrected(asked.request, candidate, wrong, self._means.count)
            asked = replace(asked, request=request)
        try:
            attempt = await open_try(asked, candidate, self._means, avoid=step.avoid)
        except ProviderFailure as failure:
            self._take_note(course, FailedTry(step.candidate, "", failure))
            return None
        course.route.called()
        return attempt

    def _worth_waiting(self, course: _Course, step: NextTry) -> bool:
        deadline = course.asked.deadline
        if deadline is None or step.wait_seconds == 0:
            return True
        return self._means.clock() + step.wait_seconds + ANSWER_SECONDS < deadline

    async def _hedged(self, course: _Course, attempt: Try) -> tuple[Try, Completion]:
        """Returns the answer of `attempt`, or of one made beside it when it is slow."""
        slow = attempt.target.load.p95_seconds
        if not self._hedging.enabled or slow is None:
            return attempt, await attempt.complete()

        lost: list[FailedTry] = []

        async def ran(one: Try, *, hedge: bool) -> tuple[Try, Completion]:
            try:
                return one, await one.complete()
            except ProviderFailure as failure:
                lost.append(_failed(one, failure, hedge=hedge))
                raise

        async def beside(candidate: Candidate) -> tuple[Try, Completion]:
            avoid = (attempt.target.endpoint,)
            other = await open_try(course.asked, candidate, self._means, avoid=avoid)
            course.route.called()
            return await ran(other, hedge=True)

        def hedge() -> Awaitable[tuple[Try, Completion]] | None:
            candidate = course.route.beside(attempt.candidate)
            return beside(candidate) if candidate and self._hedging.spend() else None

        answered = False
        try:
            won = await first_answer(ran(attempt, hedge=False), hedge, after_seconds=slow)
            answered = True
            return won
        finally:
            # A call that is cancelled at once has not begun its try.
            attempt.abandon()
            # The failure of the one made first is noted by the caller when nobody answered.
            for each in lost:
                if answered:
                    course.failed.append(each)
                elif each.hedge:
                    self._take_note(course, each)

    def _note(self, course: _Course, attempt: Try, failure: ProviderFailure) -> None:
        self._take_note(course, _failed(attempt, failure))

    def _take_note(self, course: _Course, failed: FailedTry) -> None:
        course.failed.append(failed)
        course.route.failed(failed, now=self._means.clock())

    def _end(self, course: _Course) -> Exception:
        last = course.failed[-1]
        if last.failure.kind is FailureKind.BAD_REQUEST:
            return refused(last, course.failed)
        return exhausted(course.failed)

    async def _finish(self, course: _Course, winner: Try, completion: Completion) -> Answer:
        asked, model = course.asked, winner.candidate.model
        answer = Answer(
            completion=completion,
            usage=winner.usage,
            cost_micro_usd=winner.cost_micro_usd,
            decision=after_failures(asked.decision, model, course.failed),
            model=model,
            failed=tuple(course.failed),
        )
        self._observe(course, winner)
        return answer

    def _observe(self, course: _Course, winner: Try | None) -> None:
        model = None if winner is None else winner.candidate.model
        self._observer.observed(course.asked.decision, model, course.failed)


def _off_schema(failed: Sequence[FailedTry], candidate: Candidate) -> FailedTry | None:
    """Returns the last answer of a model that did not keep the schema; None without one."""
    return next(
        (
            each
            for each in reversed(failed)
            if each.name == candidate.model.name and each.failure.kind is FailureKind.OFF_SCHEMA
        ),
        None,
    )


def _failed(attempt: Try, failure: ProviderFailure, *, hedge: bool = False) -> FailedTry:
    place = attempt.target.endpoint
    return FailedTry(attempt.candidate, place, failure, attempt.seconds, hedge=hedge)


def caller_of(request: Request) -> Caller:
    """Returns for whom the current call's request is made."""
    call = current_call()
    by = request.attribution
    return Caller(call.tenant_id, by.project, by.task_id, by.step_id, call.request_id)
