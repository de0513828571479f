"""Holds money for calls, and gives it back. See `generate.ports.Budgets`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from uuid import UUID

from router_svc.budgets.knowledge import Knowledge
from router_svc.budgets.metrics import BudgetMetrics
from router_svc.budgets.ports import Book, Vault, Want
from router_svc.budgets.records import AccountKey, Action, Budget, Standing
from router_svc.budgets.rules import MAX_LIMIT_MICRO_USD, exhausted
from router_svc.catalogue.models import Model
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.ports import Reservation
from router_svc.generate.records import Caller, UsageEntry
from stepwire.batcher import Batcher
from stepwire.errors import StepwireError
from stepwire.ids import uuid7

MAX_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Refusal:
    """That accounts have too little left for a call, each with how it stands."""

    accounts: Mapping[AccountKey, Standing]


class BudgetKeeper:
    """Holds money in the accounts that calls need.

    Args:
        vault: Holds it.
        book: Charges what was used.
        knowledge: Which budgets there are.
        metrics: Counts refusals.
        session_id: This process's.
    """

    def __init__(
        self,
        vault: Vault,
        book: Book,
        knowledge: Knowledge,
        metrics: BudgetMetrics,
        *,
        session_id: UUID,
    ) -> None:
        self._vault = vault
        self._book = book
        self._knowledge = knowledge
        self._metrics = metrics
        self._session_id = session_id
        self._wants: Batcher[Want, Refusal | None] = Batcher(
            "reservations", self._hold, max_batch=MAX_BATCH
        )

    async def reserve(self, caller: Caller, model: Model, *, worst_micro_usd: int) -> Reservation:
        """See `Budgets`."""
        covering = self._knowledge.covering(caller, model.name) if worst_micro_usd else {}
        if not covering:
            return _Free(self._book)
        want = Want(
            reservation_id=uuid7(),
            amount_micro_usd=min(worst_micro_usd, MAX_LIMIT_MICRO_USD),
            accounts=tuple(covering),
            patient=self._book.charging,
        )
        refusal = await self._put(want)
        if refusal is not None and want.patient:
            # What was held for calls that have ended here may be free by now.
            await self._book.charged()
            refusal = await self._put(replace(want, patient=False))
        if refusal is not None:
            raise self._told(covering, refusal, worst_micro_usd)
        return _Held(self._book, want, self._metrics)

    async def _put(self, want: Want) -> Refusal | None:
        future = self._wants.put(want)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(partial(self._abandoned, want))
            raise

    def _abandoned(self, want: Want, future: "asyncio.Future[Refusal | None]") -> None:
        """Gives back what was held for a caller that has gone."""
        if not future.cancelled() and future.exception() is None and future.result() is None:
            self._book.release(want.reservation_id)

    async def _hold(self, wants: Sequence[Want]) -> list[Refusal | None]:
        # In one order for all, so that no instance waits for another in a circle.
        accounts = sorted({account for want in wants for account in want.accounts})
        try:
            standings = await self._vault.reserve(self._session_id, wants, accounts)
        except StepwireError:
            # Whether anything is held is not known.
            for want in wants:
                self._book.release(want.reservation_id)
            raise
        self._knowledge.saw(standings)
        short: list[dict[AccountKey, Standing]] = [{} for _ in wants]
        for account, standing in standings.items():
            for place in standing.refused:
                short[place][account] = standing
        return [Refusal(each) if each else None for each in short]

    def _told(
        self, covering: Mapping[AccountKey, Budget], refusal: Refusal, needed: int
    ) -> StepwireError | ProviderFailure:
        # One that refuses lets no cheaper model be tried, whatever others say.
        account, standing = min(
            refusal.accounts.items(),
            key=lambda each: covering[each[0]].config.on_exhausted is not Action.REFUSE,
        )
        budget = covering[account]
        self._metrics.refused(budget)
        error = exhausted(budget, account[1], standing, needed)
        if budget.config.on_exhausted is Action.REFUSE:
            return error
        return ProviderFailure(
            FailureKind.OVER_BUDGET,
            error.message,
            called=False,
            over=error,
        )


class _Held:
    """See `Reservation`."""

    __slots__ = ("_book", "_metrics", "_want")

    def __init__(self, book: Book, want: Want, metrics: BudgetMetrics) -> None:
        self._book = book
        self._want = want
        self._metrics = metrics

    def settle(self, entry: UsageEntry) -> None:
        if entry.cost_micro_usd > self._want.amount_micro_usd:
            self._metrics.exceeded(entry, held_micro_usd=self._want.amount_micro_usd)
        self._book.charge(self._want.reservation_id, entry)

    def release(self) -> None:
        self._book.release(self._want.reservation_id)


class _Free:
    """A `Reservation` of a call that no budget covers."""

    __slots__ = ("_book",)

    def __init__(self, book: Book) -> None:
        self._book = book

    def settle(self, entry: UsageEntry) -> None:
        self._book.charge(None, entry)

    def release(self) -> None:
        pass
