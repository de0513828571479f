"""What budgets need of the world."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from router_svc.budgets.records import (
    Account,
    AccountKey,
    Alarm,
    Budget,
    Change,
    Config,
    Standing,
)
from router_svc.generate.records import UsageEntry

Edit = Callable[[Budget], Config]
"""Gives what a budget is to be from what it is; raises to refuse."""


@dataclass(frozen=True, slots=True)
class Want:
    """What is to be held for one call.

    Attributes:
        reservation_id: Names what is held.
        amount_micro_usd: The most that the call can cost.
        accounts: All of which must have it left; at least one.
        patient: Whether the call is made again when it is refused, so that this refusal
            is not counted.
    """

    reservation_id: UUID
    amount_micro_usd: int
    accounts: tuple[AccountKey, ...]
    patient: bool = False


class BudgetStore(Protocol):
    """Keeps budgets."""

    async def add(self, tenant_id: str, name: str, config: Config, *, limit: int) -> Budget:
        """Adds a budget, or returns the one of this name.

        Raises:
            StepwireError: FIELD_INVALID when the tenant has `limit` of them already.
        """

    async def find(self, tenant_id: str, name: str) -> tuple[Budget, Account | None] | None:
        """Returns a budget and, without a split, its present account."""

    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Budget]:
        """Returns a tenant's budgets behind a name, by name."""

    async def change(self, tenant_id: str, name: str, edit: Edit) -> Budget:
        """Has `edit` made to a budget; returns what came of it.

        Raises:
            StepwireError: BUDGET_NOT_FOUND, or what `edit` raises.
        """

    async def delete(self, tenant_id: str, name: str, check: Callable[[Budget], None]) -> None:
        """Deletes a budget, unless `check` raises.

        Raises:
            StepwireError: BUDGET_NOT_FOUND, or what `check` raises.
        """

    async def accounts(
        self, budget: Budget, *, key: str, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Account]:
        """Returns accounts, the newest period first, within it by key; behind `after`."""

    async def changes(self, *, after: int) -> Sequence[Change]:
        """Returns what has changed since a version, in the order of the changes."""


class Vault(Protocol):
    """Holds money, in one statement for many calls."""

    async def reserve(
        self, session_id: UUID, wants: Sequence[Want], accounts: Sequence[AccountKey]
    ) -> dict[AccountKey, Standing]:
        """Holds what is wanted, where all accounts of a want have it left.

        May be repeated with the same wants.

        Args:
            session_id: Whose calls they are.
            wants: What is wanted.
            accounts: All accounts that are wanted, each once.

        Returns:
            How the accounts stand, and which wants they refused; those of budgets that are
            gone are missing, and refuse nothing.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE.
        """
        ...

    async def renew(self, session_id: UUID, *, lease: timedelta) -> None:
        """Keeps a session alive for so long."""
        ...

    async def end(self, session_id: UUID) -> None:
        """Ends a session: what it holds is charged soon."""
        ...

    async def expire(self, *, limit: int) -> tuple[int, Sequence[Alarm]]:
        """Charges what is held for sessions that have run out; returns how many calls it were."""
        ...

    async def purge(self) -> None:
        """Removes what nobody needs any more."""
        ...


class Book(Protocol):
    """Charges what was used, and writes it down, behind the calls."""

    def charge(self, reservation_id: UUID | None, entry: UsageEntry) -> None:
        """Takes what a call used; and charges it, when something is held for it."""
        ...

    def release(self, reservation_id: UUID) -> None:
        """Gives back what is held for a call that was not made."""
        ...

    @property
    def charging(self) -> bool:
        """Whether anything has yet to be charged or given back."""
        ...

    async def charged(self) -> None:
        """Waits until what has yet to be charged or given back now is."""
        ...
