"""In any minute no more is asked of a model than its limits allow, by all instances together."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeter

from router_svc.catalogue.models import Model
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.ports import Lease
from router_svc.generate.records import Caller
from router_svc.limits.limiter import LOOK_AGAIN_SECONDS, RateLimits
from router_svc.limits.metrics import LimitMetrics
from router_svc.limits.ports import Ask, Back, Given
from router_svc.limits.window import WINDOW_SECONDS, MemoryRates
from stepwire.errors import Reason, StepwireError
from tests.unit.router_svc.router_builders import a_model

CALLER = Caller("ours")
MINUTE = 60.0


class Asked(MemoryRates):
    """Counts how often it is asked."""

    times = 0

    async def take(self, asks: Sequence[Ask], back: Sequence[Back]) -> Mapping[str, Given]:
        self.times += 1
        return await super().take(asks, back)


@dataclass
class Instances:
    """Two instances that share their rates, on a clock of their own."""

    now: float = 1_000.0
    limits: list[RateLimits] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Asked(self.clock)
        self.limits = [self.instance(), self.instance()]

    def instance(self) -> RateLimits:
        return RateLimits(self.store, LimitMetrics(NoOpMeter("test")), self.clock)

    def clock(self) -> float:
        return self.now


def limited(requests: int | None = None, tokens: int | None = None) -> Model:
    limits = {"requests_per_minute": requests, "tokens_per_minute": tokens}
    return a_model("small", limits=limits)


async def lease(limits: RateLimits, model: Model, tokens: int = 1) -> Lease | None:
    try:
        return await limits.lease(CALLER, model, tokens=tokens)
    except ProviderFailure:
        return None


async def test_a_call_that_is_too_large_now_keeps_no_smaller_one_out() -> None:
    instances = Instances()
    model, [limits, _] = limited(tokens=100), instances.limits
    assert await lease(limits, model, 60) is not None
    assert await lease(limits, model, 50) is None
    assert await lease(limits, model, 50) is None
    assert await lease(limits, model, 10) is not None
    # What is left is less than that one needs, too; and nobody asks for it again and again.
    assert await lease(limits, model, 40) is None
    asked = instances.store.times
    assert await lease(limits, model, 45) is None
    assert instances.store.times == asked


@dataclass(frozen=True)
class Step:
    after: float
    instance: int
    tokens: int
    used: float
    released: bool


steps = st.builds(
    Step,
    after=st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0, 2.5, 9.0]),
    instance=st.integers(0, 1),
    tokens=st.integers(1, 40),
    used=st.floats(0, 1),
    released=st.booleans(),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, min_size=30, max_size=120))
async def test_no_minute_has_more_than_the_limits(some: list[Step]) -> None:
    here, model = Instances(), limited(requests=9, tokens=100)
    made: list[tuple[float, int]] = []
    for step in some:
        here.now += step.after
        limits = here.limits[step.instance]
        if step.after:
            await limits.tidy()
        leased = await lease(limits, model, step.tokens)
        if leased is None:
            continue
        if step.released:
            leased.release()
            continue
        used = int(step.tokens * step.used)
        leased.settle(used)
        made.append((here.now, used))
    for end, _ in made:
        minute = [used for at, used in made if end - MINUTE < at <= end]
        assert len(minute) <= 9
        assert sum(minute) <= 100


async def test_what_one_does_not_use_the_other_gets() -> None:
    here, model = Instances(), limited(requests=10)
    first, second = here.limits
    leases = [await lease(first, model) for _ in range(10)]
    assert all(leases)
    assert await lease(second, model) is None
    for each in leases[:4]:
        assert each is not None
        each.release()
    await first.tidy()
    here.now += LOOK_AGAIN_SECONDS
    assert [bool(await lease(second, model)) for _ in range(5)] == [True] * 4 + [False]
    # The minute later all is free again.
    here.now += WINDOW_SECONDS
    assert all([await lease(second, model) for _ in range(10)])


async def test_callers_at_once_get_what_there_is_and_no_more() -> None:
    here, model = Instances(), limited(requests=20)
    tried = await asyncio.gather(*(lease(here.limits[n % 2], model) for n in range(60)))
    assert sum(each is not None for each in tried) == 20


async def test_a_caller_that_has_gone_leaves_its_room() -> None:
    here, model = Instances(), limited(requests=1)
    calling = asyncio.create_task(lease(here.limits[0], model))
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await here.limits[0].tidy(everything=True)
    assert await lease(here.limits[1], model) is not None


async def test_one_call_above_the_limit_never_fits() -> None:
    here = Instances()
    with pytest.raises(ProviderFailure, match="101 tokens are above its limit of 100") as caught:
        await here.limits[0].lease(CALLER, limited(tokens=100), tokens=101)
    assert (caught.value.kind, caught.value.retry_after) == (FailureKind.UNFIT, None)


async def test_tokens_above_the_estimate_are_counted() -> None:
    here, model = Instances(), limited(tokens=100)
    leased = await lease(here.limits[0], model, 10)
    assert leased is not None
    leased.settle(95)
    await here.limits[0].tidy(everything=True)
    assert await lease(here.limits[1], model, 6) is None
    here.now += LOOK_AGAIN_SECONDS
    assert await lease(here.limits[1], model, 5) is not None


async def test_a_model_at_its_limit_rests_for_decisions() -> None:
    here, model = Instances(), limited(requests=1)
    limits = here.limits[0]
    assert limits.resting(model) == ""
    await lease(limits, model)
    with pytest.raises(ProviderFailure, match="at its limit of 1 requests") as caught:
        await limits.lease(CALLER, model, tokens=1)
    failure = caught.value
    assert (failure.kind, failure.called) == (FailureKind.RATE_LIMITED, False)
    assert failure.retry_after == timedelta(seconds=WINDOW_SECONDS)
    assert limits.resting(model) == "at its limit of 1 requests per minute for another 62 s"
    here.now += WINDOW_SECONDS
    assert limits.resting(model) == ""


class Away:
    """A record that does not answer."""

    async def take(self, asks: list[Ask], back: list[Back]) -> dict[str, object]:
        raise StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "away")


async def test_without_the_record_what_is_held_is_used_up_and_no_more() -> None:
    here, model = Instances(), limited(requests=60)
    limits = here.limits[0]
    for _ in range(20):
        here.now += 0.1
        assert await lease(limits, model)
    store, limits._store = limits._store, Away()  # type: ignore[assignment]
    left = limits._holdings["small/requests"].left(here.now)
    tried = [bool(await lease(limits, model)) for _ in range(left + 2)]
    assert tried == [True] * left + [False] * 2
    assert left
    with pytest.raises(ProviderFailure, match="cannot be found out") as caught:
        await limits.lease(CALLER, model, tokens=1)
    assert (caught.value.kind, caught.value.called) == (FailureKind.RATE_LIMITED, False)
    limits._store = store
    assert await lease(limits, model)


class Unheard(MemoryRates):
    """Does what it is asked to, and the answer is lost."""

    async def take(self, asks: Sequence[Ask], back: Sequence[Back]) -> Mapping[str, Given]:
        await super().take(asks, back)
        raise StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "away")


async def test_what_may_have_been_put_back_is_not_put_back_again() -> None:
    here, model = Instances(), limited(requests=60)
    first, second = here.limits
    assert all([await lease(first, model) for _ in range(30)])
    here.store.__class__ = Unheard  # type: ignore[assignment]
    await first.tidy(everything=True)
    here.store.__class__ = Asked
    # Some more are given and put back, with what was put back before if that is kept.
    assert await lease(first, model)
    await first.tidy(everything=True)
    leases = [await lease(second, model) for _ in range(60)]
    assert sum(map(bool, leases)) == 29
