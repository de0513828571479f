"""What this process knows of budgets: which there are, and how accounts stood lately.

Which there are is read from the record again and again. How accounts stand is what was seen
when calls were held for, or refused: it is for decisions, and never for refusing a call.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from router_svc.budgets.records import AccountKey, Action, Budget, Change, Split, Standing
from router_svc.budgets.rules import exhausted
from router_svc.catalogue.models import Model
from router_svc.decide.records import Left
from router_svc.generate.records import Caller
from router_svc.requests.records import Request
from stepwire.call import current_call

BELIEVED_SECONDS: Final = 2.0
"""For how long what was seen of an account is believed."""
MAX_SEEN: Final = 10_000
"""Accounts of which is remembered how they stood."""


@dataclass(frozen=True, slots=True)
class _Seen:
    standing: Standing
    until: float


class Knowledge:
    """The budgets of all tenants. See `Allowance`.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budgets: dict[str, tuple[Budget, ...]] = {}
        self._seen: dict[AccountKey, _Seen] = {}
        self.version = 0
        """Of the last change that is known."""

    def learn(self, changes: Iterable[Change]) -> None:
        """Takes changes, in their order; those that are known already are passed over."""
        for change in changes:
            # Of two that read at once, the one that began first may end last.
            if change.version <= self.version:
                continue
            others = [
                each
                for each in self._budgets.get(change.tenant_id, ())
                if each.budget_id != change.budget_id
            ]
            if change.budget is not None:
                others.append(change.budget)
            if others:
                self._budgets[change.tenant_id] = tuple(others)
            else:
                self._budgets.pop(change.tenant_id, None)
            self.version = change.version

    def covering(self, caller: Caller, model: str) -> Mapping[AccountKey, Budget]:
        """Returns the accounts that a call needs, and their budgets."""
        return {
            (budget.budget_id, key): budget
            for budget in self._budgets.get(caller.tenant_id, ())
            if (key := budget.key_for(caller, model)) is not None
        }

    def find(self, account: AccountKey) -> Budget | None:
        """Returns the budget of an account, if it is known."""
        return next(
            (
                each
                for many in self._budgets.values()
                for each in many
                if each.budget_id == account[0]
            ),
            None,
        )

    def saw(self, standings: Mapping[AccountKey, Standing]) -> None:
        """Takes how accounts stand now."""
        now, today = self._clock(), datetime.now(UTC)
        for account, standing in standings.items():
            seconds = BELIEVED_SECONDS
            if standing.ends_at is not None:
                seconds = min(seconds, (standing.ends_at - today).total_seconds())
            self._seen.pop(account, None)
            self._seen[account] = _Seen(standing, now + seconds)
        while len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]

    def unsplit(self) -> Sequence[tuple[Budget, Standing]]:
        """Returns how the accounts of budgets without a split stood when they were last seen."""
        return [
            (budget, seen.standing)
            for many in self._budgets.values()
            for budget in many
            if budget.config.split is Split.NONE
            and (seen := self._seen.get((budget.budget_id, ""))) is not None
        ]

    def left(self, request: Request, model: Model) -> Left | None:
        """See `Allowance`: of the budgets that would let a cheaper model be tried."""
        call = current_call()
        if call.tenant_id not in self._budgets:
            return None
        by = request.attribution
        caller = Caller(call.tenant_id, by.project, by.task_id, by.step_id, call.request_id)
        now = self._clock()
        least: Left | None = None
        for account, budget in self.covering(caller, model.name).items():
            seen = self._seen.get(account)
            config = budget.config
            if seen is None or seen.until <= now or config.shadow:
                continue
            if config.on_exhausted is Action.REFUSE:
                continue
            if least is None or seen.standing.left < least.micro_usd:
                refusal = partial(exhausted, budget, account[1], seen.standing)
                least = Left(seen.standing.left, refusal)
        return least
