"""Ports that ask for nothing: for an installation without budgets, limits or caches."""

from collections.abc import Sequence

from router_svc.catalogue.models import Model
from router_svc.decide.records import Decision
from router_svc.generate.ports import Lease, Reservation
from router_svc.generate.records import Answer, Caller, FailedTry, UsageEntry
from router_svc.requests.records import Request


class _Free:
    async def settle(self, actual_micro_usd: int) -> None:
        del actual_micro_usd


class NoBudgets:
    """`Budgets` that hold nothing."""

    async def reserve(self, caller: Caller, model: Model, *, worst_micro_usd: int) -> Reservation:
        """See `Budgets`."""
        del caller, model, worst_micro_usd
        return _FREE


class _Room:
    def settle(self, tokens: int) -> None:
        del tokens


class NoLimits:
    """`Limits` that never refuse."""

    async def lease(self, caller: Caller, model: Model, *, tokens: int) -> Lease:
        """See `Limits`."""
        del caller, model, tokens
        return _ROOM


class NoCache:
    """A `Cache` that keeps nothing."""

    async def lookup(self, request: Request, caller: Caller) -> Answer | None:
        """See `Cache`."""
        del request, caller
        return None

    async def store(self, request: Request, caller: Caller, answer: Answer) -> None:
        """See `Cache`."""


class NoUsage:
    """A `UsageRecorder` that forgets."""

    def record(self, entry: UsageEntry) -> None:
        """See `UsageRecorder`."""


class NoObserver:
    """An `Observer` that learns nothing."""

    def observed(
        self, decision: Decision, answered: Model | None, failed: Sequence[FailedTry]
    ) -> None:
        """See `Observer`."""


_FREE = _Free()
_ROOM = _Room()
