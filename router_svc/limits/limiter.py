"""Keeps calls within the catalogue's rates. See `generate.ports.Limits`."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from router_svc.catalogue.models import Model
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.ports import Lease
from router_svc.generate.records import Caller
from router_svc.limits.holding import Holding, Part
from router_svc.limits.metrics import LimitMetrics
from router_svc.limits.ports import Ask, Back, Given, RateStore
from router_svc.limits.window import KEPT_SECONDS
from stepwire.batcher import Batcher
from stepwire.errors import StepwireError

_logger = logging.getLogger(__name__)

REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
LOOK_AGAIN_SECONDS: Final = 0.25
"""For how long a refusal is believed: another instance may put back what it does not use."""
TIDY_SECONDS: Final = KEPT_SECONDS / 2
MAX_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Need:
    """What a call needs of one rate."""

    holding: Holding
    limit: int
    units: int

    def __str__(self) -> str:
        return f"its limit of {self.limit} {self.holding.unit} per minute"


class RateLimits:
    """The rates of all models.

    Args:
        store: Gives out of the rates that all instances share.
        metrics: Counts refusals.
        clock: Monotonic seconds.
    """

    def __init__(self, store: RateStore, metrics: LimitMetrics, clock: Callable[[], float]) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._away = False
        self._known: dict[tuple[str, str], Holding] = {}
        self._holdings: dict[str, Holding] = {}
        self._wants: Batcher[tuple[Need, ...], Lease] = Batcher(
            "rates", self._supply, max_batch=MAX_BATCH
        )

    async def lease(self, caller: Caller, model: Model, *, tokens: int) -> Lease:
        """See `Limits`."""
        del caller
        needs = self._needs(model, tokens)
        if not needs:
            return _UNLIMITED
        now = self._clock()
        lease = _take(needs, now)
        if lease is not None:
            return lease
        for need in needs:
            if need.units > need.limit:
                raise ProviderFailure(
                    FailureKind.UNFIT,
                    f"{need.units} {need.holding.unit} are above {need}",
                    called=False,
                )
            if need.holding.is_refused(need.units, now):
                raise self._refusal(needs, now)
        future = self._wants.put(needs)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_release)
            raise

    def resting(self, model: Model) -> str:
        """Returns at which limit a model is known to be; empty when it is at none."""
        for need in self._needs(model, 1):
            left = need.holding.told_at - self._clock()
            if left > LOOK_AGAIN_SECONDS:
                return f"at {need} for another {math.ceil(left)} s"
        return ""

    async def run(self) -> None:
        """Puts back again and again what is not used in time."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            try:
                await self.tidy()
            except Exception:
                _logger.exception("what is not used of the rates is not put back")

    async def tidy(self, *, everything: bool = False) -> None:
        """Puts back what is not used, or all."""
        now = self._clock()
        back = [
            each
            for holding in self._holdings.values()
            for each in holding.unwanted(now, everything=everything)
        ]
        if back:
            await self._exchange([], back)

    async def _supply(self, wants: Sequence[tuple[Need, ...]]) -> list[Lease | BaseException]:
        """Gets what is missing, and gives to the callers in their order what there is."""
        now = self._clock()
        by_name: dict[str, list[Need]] = {}
        for need in (each for needs in wants for each in needs):
            by_name.setdefault(need.holding.name, []).append(need)
        asks: dict[str, Ask] = {}
        back: list[Back] = []
        for needs in by_name.values():
            holding = needs[-1].holding
            ask = holding.ask(needs[-1].limit, [need.units for need in needs], now)
            if ask is not None:
                asks[ask.name] = ask
            back += holding.unwanted(now)
        for name, given in (await self._exchange([*asks.values()], back)).items():
            # Kept from when it was asked for, which is not later than when it was given.
            self._holdings[name].put(asks[name], given, now, patience_seconds=LOOK_AGAIN_SECONDS)
        now = self._clock()
        return [_take(needs, now) or self._refusal(needs, now) for needs in wants]

    async def _exchange(self, asks: Sequence[Ask], back: Sequence[Back]) -> Mapping[str, Given]:
        try:
            given = await self._store.take(asks, back)
        except StepwireError as error:
            # What is held is used up; beyond it, nobody knows what others ask.
            if not self._away:
                _logger.warning("rates are not given out", extra={"why": str(error)})
            self._away = True
            # Nor is it known whether what was put back has come: put back twice, it would be
            # given to two. Lost, it is missing for a minute.
            return {}
        self._away = False
        return given

    def _refusal(self, needs: tuple[Need, ...], now: float) -> ProviderFailure:
        lacking = [need for need in needs if need.holding.left(now) < need.units] or needs
        need = max(lacking, key=lambda each: each.holding.told_at)
        wait = max(need.holding.told_at - now, LOOK_AGAIN_SECONDS)
        self._metrics.refused(need.holding.model, need.holding.unit)
        return ProviderFailure(
            FailureKind.RATE_LIMITED,
            f"whether it is at {need} cannot be found out" if self._away else f"at {need}",
            retry_after=timedelta(seconds=wait),
            called=False,
        )

    def _needs(self, model: Model, tokens: int) -> tuple[Need, ...]:
        limits = model.limits
        units = (
            (REQUESTS, limits.requests_per_minute, 1),
            (TOKENS, limits.tokens_per_minute, tokens),
        )
        return tuple(
            Need(self._holding(model.name, unit), limit, needed)
            for unit, limit, needed in units
            if limit is not None
        )

    def _holding(self, model: str, unit: str) -> Holding:
        holding = self._known.get((model, unit))
        if holding is None:
            holding = self._known[model, unit] = Holding(model, unit)
            self._holdings[holding.name] = holding
        return holding


def _take(needs: tuple[Need, ...], now: float) -> Lease | None:
    if any(need.holding.left(now) < need.units for need in needs):
        return None
    return _Lease([_Taken(need, now) for need in needs])


class _Taken:
    """What a call has taken of one rate."""

    __slots__ = ("_parts", "need")

    def __init__(self, need: Need, now: float) -> None:
        self.need = need
        self._parts: list[Part] = need.holding.take(need.units, now)

    def used(self, units: int) -> None:
        """Puts back what was not used."""
        self.need.holding.give_back(self._parts, self.need.units - units)


class _Lease:
    """See `Lease`."""

    __slots__ = ("_taken",)

    def __init__(self, taken: Sequence[_Taken]) -> None:
        self._taken = taken

    def settle(self, tokens: int) -> None:
        for each in self._taken:
            if each.need.holding.unit == TOKENS:
                each.used(tokens)

    def release(self) -> None:
        for each in self._taken:
            each.used(0)


class _Unlimited:
    """A `Lease` of a model without rates."""

    def settle(self, tokens: int) -> None:
        del tokens

    def release(self) -> None:
        pass


_UNLIMITED: Final = _Unlimited()


def _release(future: "asyncio.Future[Lease]") -> None:
    """Puts back what came for a caller that has gone."""
    if not future.cancelled() and future.exception() is None:
        future.result().release()
