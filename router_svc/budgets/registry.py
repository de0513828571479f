"""The verbs of a budget's owner."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from router_svc.budgets import rules
from router_svc.budgets.ports import BudgetStore
from router_svc.budgets.records import Account, Budget, Config
from stepwire.errors import field_invalid
from stepwire.names import check_name

Revise = Callable[[Config], Config]


class BudgetRegistry:
    """The budgets of all tenants.

    Args:
        store: Keeps them.
        changed: Called after a change, so that it holds here at once.
        limit: Most budgets of one tenant.
    """

    def __init__(
        self, store: BudgetStore, changed: Callable[[], Awaitable[None]], *, limit: int
    ) -> None:
        self._store = store
        self._changed = changed
        self._limit = limit

    async def create(self, tenant_id: str, name: str, config: Config) -> Budget:
        """Creates a budget, or returns the same one that exists.

        Raises:
            StepwireError: FIELD_INVALID, or BUDGET_EXISTS with another configuration.
        """
        check_name(name)
        rules.check_config(config)
        budget = await self._store.add(tenant_id, name, config, limit=self._limit)
        if budget.config != config:
            raise rules.exists(name)
        await self._changed()
        return budget

    async def get(self, tenant_id: str, name: str) -> tuple[Budget, Account | None]:
        """Returns a budget and, without a split, its present account.

        Raises:
            StepwireError: BUDGET_NOT_FOUND; so do all that name one.
        """
        found = await self._store.find(tenant_id, check_name(name))
        if found is None:
            raise rules.not_found(name)
        return found

    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Budget]:
        """Returns a tenant's budgets behind a name, by name."""
        return await self._store.list(tenant_id, after=after, limit=limit)

    async def update(self, tenant_id: str, name: str, revise: Revise, *, etag: str) -> Budget:
        """Changes a budget.

        Raises:
            StepwireError: FIELD_INVALID, or BUDGET_CHANGED when its etag is another.
        """

        def edit(budget: Budget) -> Config:
            _check_etag(budget, etag)
            config = revise(budget.config)
            rules.check_config(config)
            return config

        changed = await self._store.change(tenant_id, check_name(name), edit)
        await self._changed()
        return changed

    async def delete(self, tenant_id: str, name: str, *, etag: str) -> None:
        """Deletes a budget.

        Raises:
            StepwireError: BUDGET_CHANGED when its etag is another.
        """

        def check(budget: Budget) -> None:
            _check_etag(budget, etag)

        await self._store.delete(tenant_id, check_name(name), check)
        await self._changed()

    async def accounts(
        self,
        tenant_id: str,
        name: str,
        *,
        key: str,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[Account]:
        """Returns accounts of a budget, the newest period first, within it by key."""
        if "\0" in key:
            raise field_invalid("key", "must not hold U+0000")
        budget, _ = await self.get(tenant_id, name)
        return await self._store.accounts(budget, key=key, after=after, limit=limit)


def _check_etag(budget: Budget, etag: str) -> None:
    if etag and etag != budget.etag:
        raise rules.changed(budget)
