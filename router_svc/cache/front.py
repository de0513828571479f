"""Stands before the router: gives earlier answers where requests allow it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace

from router_svc.cache.answers import Answers
from router_svc.cache.behind import Behind
from router_svc.cache.flight import AnswerFlight
from router_svc.cache.keeping import (
    given_again,
    is_worth_keeping,
    kept_of,
    pieces_of,
    shared,
)
from router_svc.cache.key import ask_of
from router_svc.cache.memory import MemoryAnswers
from router_svc.cache.metrics import HIT, CacheMetrics
from router_svc.cache.ports import Keeping
from router_svc.cache.records import Ask, Embedded, Found
from router_svc.cache.semantic import SameMeaning
from router_svc.catalogue.holder import CatalogueHolder
from router_svc.generate.outcome import out_of_time
from router_svc.generate.pipeline import caller_of
from router_svc.generate.ports import Answering, UsageRecorder
from router_svc.generate.records import Answer, HitKind, Piece, UsageEntry
from router_svc.generate.tries import ANSWER_SECONDS, ANSWERED
from router_svc.generate.usage import Usage
from router_svc.requests.records import CacheMode, Request
from stepwire.call import current_call
from stepwire.errors import Reason, StepwireError
from stepwire.flights import Flights

# Later than the router gives up itself, which knows more to tell.
_MARGIN_SECONDS: Final = ANSWER_SECONDS / 2
# Failures of the caller who began a flight, which say nothing of those who joined it.
_OF_ITS_CALLER: Final = frozenset({Reason.DEADLINE_EXCEEDED, Reason.BUDGET_EXHAUSTED})
# What a hit uses of any model.
_NOTHING = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Levels:
    """Where answers are kept.

    Attributes:
        memory: Those of this process.
        answers: Those by key, wherever they are.
        meaning: Those by meaning; None without a vector service.
        behind: Writes them.
    """

    memory: MemoryAnswers
    answers: Answers
    meaning: SameMeaning | None
    behind: Behind


@dataclass(frozen=True, slots=True)
class Clocks:
    """Seconds of the wall clock, and of one that only goes on."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request to the cache, on its way."""

    ask: Ask
    request: Request
    deadline: float | None
    streamed: bool


class CachedRouter:
    """An `Answering` that asks another one only for what it does not know.

    Args:
        router: Makes answers.
        holder: Has the catalogue.
        levels: Where answers are kept.
        usage: Writes down what was given again.
        metrics: Counts.
        ttl_seconds: For how long answers are kept.
        clocks: Tell the time.
    """

    def __init__(
        self,
        router: Answering,
        holder: CatalogueHolder,
        levels: Levels,
        usage: UsageRecorder,
        metrics: CacheMetrics,
        *,
        ttl_seconds: float,
        clocks: Clocks,
    ) -> None:
        self._router = router
        self._holder = holder
        self._levels = levels
        self._usage = usage
        self._metrics = metrics
        self._ttl_seconds = ttl_seconds
        self._clocks = clocks
        self._flights = Flights[AnswerFlight]()

    async def generate(self, request: Request, *, deadline: float | None) -> Answer:
        """See `Answering`."""
        ask = self._ask(request)
        if ask is None:
            return await self._router.generate(request, deadline=deadline)
        if (known := self._recall(ask, request)) is not None:
            return known
        asked = _Asked(ask, request, deadline, streamed=False)
        async with aclosing(self._fly(asked)) as pieces:
            async for piece in pieces:
                if piece.end is not None:
                    return piece.end
        raise AssertionError("a flight has an end")

    def stream(self, request: Request, *, deadline: float | None) -> AsyncGenerator[Piece]:
        """See `Answering`."""
        ask = self._ask(request)
        if ask is None:
            return self._router.stream(request, deadline=deadline)
        return self._stream(_Asked(ask, request, deadline, streamed=True))

    async def _stream(self, asked: _Asked) -> AsyncGenerator[Piece]:
        if (known := self._recall(asked.ask, asked.request)) is not None:
            for piece in pieces_of(known):
                yield piece
            return
        async with aclosing(self._fly(asked)) as pieces:
            async for piece in pieces:
                yield piece

    def _ask(self, request: Request) -> Ask | None:
        if request.cache.mode is CacheMode.OFF:
            return None
        return ask_of(
            request,
            tenant_id=current_call().tenant_id,
            snapshot=self._holder.current,
            ttl_seconds=self._ttl_seconds,
        )

    def _recall(self, ask: Ask, request: Request) -> Answer | None:
        kept = self._levels.answers.recall(ask)
        answer = None if kept is None else self._again(Found(kept, HitKind.EXACT))
        return None if answer is None else self._given(answer, request)

    async def _fly(self, asked: _Asked) -> AsyncGenerator[Piece]:
        """Yields the answer of the call that makes it, one's own or another's."""
        control = asked.request.cache
        while True:
            begun = False
            # What one caller accepts, another may not; nor an answer that was begun before
            # an invalidation.
            key = (
                asked.ask.key,
                control.mode,
                asked.ask.max_age_seconds,
                self._levels.memory.seen,
            )
            begin = self._begin(asked)
            with self._flights.join(key, begin) as (flight, joined):
                try:
                    async with aclosing(self._follow(flight, asked.deadline)) as pieces:
                        async for piece in pieces:
                            begun = True
                            yield piece
                except StepwireError as error:
                    own = not joined or error.reason not in _OF_ITS_CALLER
                    if own or self._left(asked.deadline) <= 0:
                        raise
                    if begun and asked.streamed:
                        raise _given_up() from error
                    continue
                answer = self._ended(flight.task.result(), asked.request, joined=joined)
                if asked.streamed and not begun:
                    for piece in pieces_of(answer):
                        yield piece
                else:
                    yield Piece(end=answer)
                return

    def _begin(self, asked: _Asked) -> Callable[[], AnswerFlight]:
        return lambda: AnswerFlight(lambda flight: self._make(asked, flight))

    async def _follow(self, flight: AnswerFlight, deadline: float | None) -> AsyncGenerator[Piece]:
        """Yields what a flight has, for as long as the caller waits."""
        async with aclosing(flight.follow()) as pieces:
            while True:
                left = self._left(deadline)
                try:
                    async with asyncio.timeout(None if left == float("inf") else max(0.0, left)):
                        piece = await anext(pieces, None)
                except TimeoutError:
                    raise out_of_time([]) from None
                if piece is None:
                    return
                yield piece

    def _left(self, deadline: float | None) -> float:
        if deadline is None:
            return float("inf")
        return deadline - self._clocks.monotonic() - _MARGIN_SECONDS

    async def _make(self, asked: _Asked, flight: AnswerFlight) -> Answer:
        """Finds the answer, or has it made, and keeps it."""
        seen = self._levels.memory.seen
        found, meaning = await self._find(asked)
        if found is not None and (again := self._again(found)) is not None:
            return again
        if not asked.streamed:
            answer = await self._router.generate(asked.request, deadline=asked.deadline)
        else:
            answer = await self._streamed(asked, flight)
        self._keep(asked, answer, seen, meaning)
        return answer

    async def _find(self, asked: _Asked) -> tuple[Found | None, Embedded | None]:
        kept = await self._levels.answers.find(asked.ask)
        if kept is not None:
            return Found(kept, HitKind.EXACT), None
        meaning = self._levels.meaning
        wanted = asked.request.cache.mode is CacheMode.SEMANTIC and asked.ask.question
        if meaning is None or not wanted:
            return None, None
        return await meaning.find(asked.ask)

    async def _streamed(self, asked: _Asked, flight: AnswerFlight) -> Answer:
        pieces = self._router.stream(asked.request, deadline=asked.deadline)
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.end is not None:
                    return piece.end
                flight.add(piece)
        raise AssertionError("a stream has an end")

    def _keep(self, asked: _Asked, answer: Answer, seen: int, meaning: Embedded | None) -> None:
        if not is_worth_keeping(answer):
            return
        kept = kept_of(answer, asked.ask, tags=asked.request.cache.tags, now=self._clocks.wall())
        if self._levels.answers.keep(kept, seen=seen):
            self._levels.behind.keep(Keeping(kept, seen, meaning))

    def _again(self, found: Found) -> Answer | None:
        """Returns a kept answer; None when the catalogue has lost the model that gave it."""
        snapshot = self._holder.current
        model = snapshot.catalogue.find(found.kept.model)
        if model is None:
            return None
        now = self._clocks.wall()
        return given_again(found, model, catalogue_version=snapshot.version, now=now)

    def _ended(self, answer: Answer, request: Request, *, joined: bool) -> Answer:
        if answer.hit is None and not joined:
            self._metrics.answered(current_call().tenant_id, None)
            return answer
        return self._given(shared(answer), request)

    def _given(self, answer: Answer, request: Request) -> Answer:
        """Accounts for an answer that was given again."""
        self._metrics.answered(current_call().tenant_id, answer.hit)
        if answer.hit is not None:
            trace.get_current_span().set_attribute(HIT, answer.hit.kind.value)
        self._usage.record(
            UsageEntry(
                caller=caller_of(request),
                decision=answer.decision,
                model=answer.model,
                endpoint="",
                usage=_NOTHING,
                cost_micro_usd=0,
                seconds=0.0,
                first_token_seconds=None,
                outcome=ANSWERED,
                cached=True,
            )
        )
        return answer


def _given_up() -> StepwireError:
    """Returns the error for those who have seen the beginning of what another one gave up."""
    return StepwireError(
        Reason.PROVIDER_UNAVAILABLE,
        "the answer broke off: the call that had begun it came to its end",
    )
