"""Whatever providers do, a call ends by its deadline, and asks them no more often than it may."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeter

from router_svc.cache.keeping import is_worth_keeping
from router_svc.catalogue.models import Model
from router_svc.decide.records import Decision, DecisionReason
from router_svc.generate import app as generate_app
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.hedge import HedgeBudget
from router_svc.generate.load import Load
from router_svc.generate.nothing import NoObserver
from router_svc.generate.pipeline import Router
from router_svc.generate.ports import Lease, Limits, Permit, Slot, Target
from router_svc.generate.records import Answer, Caller, Completion, Delta, FailedTry, FinishReason
from router_svc.generate.route import RetryRules
from router_svc.generate.tries import ANSWER_SECONDS
from router_svc.generate.usage import Usage
from router_svc.limits.app import own_limits
from router_svc.metrics import RouterMetrics
from router_svc.requests.encode import encode_answer
from router_svc.requests.records import JsonSchema, Request
from router_svc.settings import RouterSettings
from router_svc.tokens.families import TokenCounters
from stepwire.errors import Reason, StepwireError
from tests.unit.router_svc.router_builders import a_catalogue, a_model, a_request, decide_on
from tests.unit.router_svc.virtual_time import run_virtual

# Of sums of floating-point numbers.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Turn:
    """What a provider does with one call: pieces, each after a wait, and then an end."""

    waits: Sequence[float]
    failure: FailureKind | None
    retry_after: float | None
    text: str


@dataclass
class Watched:
    """One call of a provider."""

    begun: float
    timeout: float
    longest_wait: float = 0.0
    ended: float | None = None


@dataclass
class Providers:
    """All providers in one: it does what the next turn says, and keeps watch."""

    turns: list[Turn]
    calls: list[Watched] = field(default_factory=list)
    taken: int = 0
    given_back: int = 0
    blamed: int = 0

    def take(self, model: Model, *, avoid: Sequence[str] = ()) -> tuple[Target, Permit]:
        self.taken += 1
        load = Load()
        for _ in range(30):
            # What was quick lately is hedged soon.
            load.begin()
            load.end(0.01)
        return Target(model, "e0", _Provider(self, model), load), _Permit(self)

    async def go_on(self, model: Model) -> AsyncGenerator[Turn]:
        """Yields the turn for each of its pieces, and once more at its end."""
        loop = asyncio.get_running_loop()
        call = Watched(loop.time(), model.timeout_seconds)
        self.calls.append(call)
        turn = self.turns.pop()
        try:
            for wait in turn.waits:
                before = loop.time()
                try:
                    await asyncio.sleep(wait)
                finally:
                    call.longest_wait = max(call.longest_wait, loop.time() - before)
                yield turn
            if turn.failure is not None:
                asked = turn.retry_after
                raise ProviderFailure(
                    turn.failure,
                    "no",
                    retry_after=None if asked is None else timedelta(seconds=asked),
                )
        finally:
            call.ended = loop.time()


@dataclass
class _Provider:
    providers: Providers
    model: Model

    async def complete(self, request: Request, *, max_output_tokens: int) -> Completion:
        async with aclosing(self.providers.go_on(self.model)) as turns:
            last = [turn async for turn in turns][-1]
        return Completion(last.text, usage=Usage(1, 1), finish=FinishReason.STOP)

    async def stream(self, request: Request, *, max_output_tokens: int) -> AsyncGenerator[Delta]:
        text = ""
        async with aclosing(self.providers.go_on(self.model)) as turns:
            async for turn in turns:
                text = turn.text
                yield Delta(text=text)
        yield Delta(end=Completion(text, usage=Usage(1, 1), finish=FinishReason.STOP))


@dataclass
class _Permit:
    providers: Providers

    def succeeded(self, seconds: float) -> None:
        self.providers.given_back += 1

    def failed(self, failure: ProviderFailure) -> None:
        self.providers.given_back += 1
        self.providers.blamed += 1

    def released(self) -> None:
        self.providers.given_back += 1


@dataclass
class _Decided:
    decision: Decision

    async def decide(self, request: Request) -> Decision:
        return self.decision


@cache
def wired() -> Router:
    return generate_app.wire(
        _Decided(DECISION),
        Providers([]),  # type: ignore[arg-type]
        TokenCounters(),
        generate_app.Joints(),
        settings=RouterSettings(),
        metrics=RouterMetrics(NoOpMeter("test")),
    )


@dataclass(frozen=True)
class Slots:
    """Limits that have no slot for anybody, or only one that cannot be kept for long."""

    seconds_left: float

    async def lease(self, caller: Caller, model: Model, *, tokens: int) -> Lease:
        return await own_limits().lease(caller, model, tokens=tokens)

    async def slot(self, model: Model) -> Slot:
        if not self.seconds_left:
            await asyncio.Event().wait()
        return self

    def release(self) -> None:
        pass


def a_router(providers: Providers, plan: "Plan", limits: Limits | None = None) -> Router:
    tries = tuple(
        replace(each, model=each.model.model_copy(update={"timeout_seconds": timeout}))
        for each, timeout in zip(DECISION.tries, plan.timeouts, strict=False)
    )
    clock = asyncio.get_running_loop().time
    return Router(
        decider=_Decided(replace(DECISION, tries=tries)),
        means=replace(
            wired()._means, targets=providers, limits=limits or own_limits(), clock=clock
        ),
        rules=RetryRules(max_attempts=plan.max_attempts),
        observer=NoObserver(),
        hedging=HedgeBudget(plan.hedge_share),
    )


@dataclass(frozen=True)
class Plan:
    turns: list[Turn]
    timeouts: list[float]
    seconds: float
    max_attempts: int
    hedge_share: float
    streamed: bool


async def carry_out(
    providers: Providers, plan: Plan, limits: Limits | None = None
) -> tuple[float, Reason | None]:
    """Returns when the call ended, and why it failed if it did."""
    router, reason, deadline = a_router(providers, plan, limits), None, plan.seconds
    try:
        if plan.streamed:
            async with aclosing(router.stream(REQUEST, deadline=deadline)) as pieces:
                async for _ in pieces:
                    pass
        else:
            await router.generate(REQUEST, deadline=deadline)
    except StepwireError as error:
        reason = error.reason
    return asyncio.get_running_loop().time(), reason


REQUEST = a_request(json_schema=JsonSchema({"type": "object"}))
DECISION = decide_on(
    REQUEST, a_catalogue(*(a_model(name, capabilities=["json"]) for name in ("a", "b", "c")))
)
TURNS = st.builds(
    Turn,
    waits=st.lists(st.sampled_from([0.0, 0.02]) | st.floats(0, 3), min_size=1, max_size=3),
    # Most often what leads to another try.
    failure=st.sampled_from(
        [None, *FailureKind, *[FailureKind.RATE_LIMITED] * 8, *[FailureKind.SERVER] * 8]
    ),
    retry_after=st.none() | st.floats(0, 5),
    text=st.sampled_from(["{}", "no JSON"]),
)


PLANS = st.builds(
    Plan,
    turns=st.lists(TURNS, min_size=6, max_size=6),
    timeouts=st.lists(st.floats(0.05, 3), min_size=1, max_size=3),
    seconds=st.floats(0.001, 5),
    max_attempts=st.sampled_from([1, 2, 3, 6]),
    hedge_share=st.sampled_from([0.0, 1.0]),
    streamed=st.booleans(),
)


async def hedged(*, first: Turn, second: Turn) -> Answer:
    providers = Providers([second, first])
    plan = Plan([], [9.0, 9.0], 60.0, max_attempts=6, hedge_share=1.0, streamed=False)
    return await a_router(providers, plan).generate(REQUEST, deadline=plan.seconds)


def test_the_model_that_is_asked_beside_and_answers_first_is_told_and_not_kept() -> None:
    slow, quick = (Turn([wait], None, None, "{}") for wait in (9.0, 1.0))
    answer = run_virtual(hedged(first=slow, second=quick))
    decision = answer.decision
    assert [each.model.name for each in decision.tries] == ["b", "a"]
    assert (answer.model.name, DecisionReason.HEDGED in decision.reasons) == ("b", True)
    assert decision.explanation.endswith("; a was slow; b answered")
    assert not answer.failed
    assert not is_worth_keeping(answer)


def test_what_failed_beside_the_one_that_answers_is_told() -> None:
    failing = Turn([0.3], FailureKind.SERVER, None, "")
    answer = run_virtual(hedged(first=failing, second=Turn([1.0], None, None, "{}")))
    assert answer.model.name == "b"
    assert [(each.name, each.kind, each.hedge) for each in answer.failed] == [
        ("a", "server", False)
    ]
    assert DecisionReason.HEDGED not in answer.decision.reasons


def test_what_failed_beside_one_that_failed_is_not_asked_again() -> None:
    turns = [
        Turn([3.0], FailureKind.SERVER, None, ""),
        # The second model, beside the first; it is not for this request.
        Turn([1.0], FailureKind.UNFIT, None, ""),
        Turn([0.0], FailureKind.SERVER, None, ""),
        Turn([0.0], None, None, "{}"),
    ]

    async def asked() -> Answer:
        plan = Plan([], [9.0, 9.0, 9.0], 60.0, max_attempts=6, hedge_share=1.0, streamed=False)
        return await a_router(Providers(turns[::-1]), plan).generate(REQUEST, deadline=60.0)

    answer = run_virtual(asked())
    assert [(each.name, each.hedge) for each in answer.failed] == [
        ("b", True),
        ("a", False),
        ("a", False),
    ]
    assert answer.model.name == "c"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_model_is_not_blamed_for_calls_that_had_no_room(*, streamed: bool) -> None:
    providers = Providers([])
    plan = Plan([], [1.0], 60.0, max_attempts=6, hedge_share=0.0, streamed=streamed)
    ended, reason = run_virtual(carry_out(providers, plan, Slots(seconds_left=0.0)))
    assert (ended, reason) == (1.0, Reason.MODELS_EXHAUSTED)
    assert (providers.taken, providers.given_back, providers.blamed) == (1, 1, 0)
    assert not providers.calls


def test_a_stream_ends_when_its_slot_can_no_longer_be_kept() -> None:
    providers = Providers([Turn([1.0, 9.0], None, None, "{}")])
    plan = Plan([], [30.0], 60.0, max_attempts=6, hedge_share=0.0, streamed=True)
    ended, reason = run_virtual(carry_out(providers, plan, Slots(seconds_left=4.0)))
    # It has 4 s for each of its pieces, as nobody takes them from what is left.
    assert (ended, reason) == (5.0, Reason.PROVIDER_UNAVAILABLE)
    assert (providers.given_back, providers.blamed) == (1, 0)
    assert providers.calls[0].ended == 5.0


@settings(max_examples=300)
@given(PLANS)
def test_calls_end_by_their_deadline_and_what_they_make_ends_before_them(plan: Plan) -> None:
    providers, deadline = Providers(list(plan.turns)), plan.seconds
    ended, reason = run_virtual(carry_out(providers, plan))
    assert ended <= deadline + ROUNDING
    assert len(providers.calls) <= plan.max_attempts
    for call in providers.calls:
        left = deadline - ANSWER_SECONDS - call.begun
        assert left > -ROUNDING, "no call begins when there is no time for its answer"
        assert call.longest_wait <= min(call.timeout, left) + ROUNDING
        assert call.ended is not None
        assert call.ended <= deadline - ANSWER_SECONDS + ROUNDING
    assert providers.given_back == providers.taken
    if reason is Reason.DEADLINE_EXCEEDED and providers.calls:
        # Not sooner than it had to: what was left was too little, or was used up.
        assert ended >= deadline - ANSWER_SECONDS - ROUNDING


@pytest.mark.parametrize("called", [True, False])
def test_an_endpoint_is_told_where_it_was_called(*, called: bool) -> None:
    failure = ProviderFailure(FailureKind.TIMEOUT, "no room", called=called)
    failed = FailedTry(DECISION.chosen, "e0", failure)
    model = DECISION.chosen.model
    told = encode_answer(Answer(Completion("{}"), Usage(1, 1), 0, DECISION, model, (failed,)))
    assert [(each.endpoint, each.called) for each in told.attempts] == [("e0" * called, called)]
