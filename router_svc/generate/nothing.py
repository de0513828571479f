"""Ports that ask for nothing: for an installation without a database."""

from collections.abc import Sequence

from router_svc.catalogue.models import Model
from router_svc.decide.records import Decision
from router_svc.generate.ports import Reservation
from router_svc.generate.records import Caller, FailedTry, UsageEntry


class _Free:
    def settle(self, entry: UsageEntry) -> None:
        del entry

    def release(self) -> None:
        pass


class NoBudgets:
    """`Budgets` that hold nothing."""

    async def reserve(self, caller: Caller, model: Model, *, worst_micro_usd: int) -> Reservation:
        """See `Budgets`."""
        del caller, model, worst_micro_usd
        return _FREE


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
