"""Between the messages of BudgetService and its records."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from router_svc.budgets.records import Account, Action, Budget, Config, Period, Scope, Split
from router_svc.budgets.registry import Revise
from stepwire.api.router.v1 import budget_pb2 as pb
from stepwire.api.router.v1.budget_service_pb2 import UpdateBudgetRequest
from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.page_tokens import PageTokens

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1_000
BUDGET_PAGES: Final = PageTokens("ListBudgets")
ACCOUNT_PAGES: Final = PageTokens("ListBudgetAccounts")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

E = TypeVar("E")

_PERIODS: Mapping[int, Period] = {
    pb.BudgetPeriod.Value(f"BUDGET_PERIOD_{each}"): each for each in Period
}
_SPLITS: Mapping[int, Split] = {
    pb.BUDGET_SPLIT_UNSPECIFIED: Split.NONE,
    **{pb.BudgetSplit.Value(f"BUDGET_SPLIT_{each}"): each for each in Split},
}
_ACTIONS: Mapping[int, Action] = {
    pb.BUDGET_ACTION_UNSPECIFIED: Action.CHEAPER_MODEL,
    **{pb.BudgetAction.Value(f"BUDGET_ACTION_{each}"): each for each in Action},
}


def config_of(message: pb.BudgetConfig) -> Config:
    """Reads a configuration.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    if message.period == pb.BUDGET_PERIOD_UNSPECIFIED:
        raise field_invalid("config.period", "is required")
    return Config(
        scope=_scope(message),
        period=_member(_PERIODS, message.period, "config.period", "a period"),
        split=_member(_SPLITS, message.split, "config.split", "a split"),
        limit_micro_usd=message.limit_micro_usd,
        alarm_percents=tuple(message.alarm_percents),
        shadow=message.shadow,
        on_exhausted=_action(message),
    )


def revision_of(request: UpdateBudgetRequest) -> Revise:
    """Reads which fields of a configuration are to change, and into what.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    paths = list(request.update_mask.paths) or list(_CHANGEABLE)
    for path in paths:
        if path not in _CHANGEABLE:
            known = ", ".join(_CHANGEABLE)
            raise field_invalid("update_mask", f"{path[:80]!r} must be one of {known}")
    given = request.config
    values: Any = {path: _CHANGEABLE[path](given) for path in paths}

    def revise(config: Config) -> Config:
        # What never changes may be sent along, as it was read.
        if given.HasField("scope") and _scope(given) != config.scope:
            raise field_invalid("config.scope", "cannot change")
        if given.period and _PERIODS.get(given.period) is not config.period:
            raise field_invalid("config.period", "cannot change")
        if given.split and _SPLITS.get(given.split) is not config.split:
            raise field_invalid("config.split", "cannot change")
        return replace(config, **values)

    return revise


def write_budget(budget: Budget, account: Account | None, message: pb.Budget) -> None:
    """Writes a budget and its present account."""
    config, scope = budget.config, budget.config.scope
    message.name = budget.name
    message.config.MergeFrom(
        pb.BudgetConfig(
            scope=pb.BudgetScope(project=scope.project, task_id=scope.task_id, model=scope.model),
            period=pb.BudgetPeriod.Value(f"BUDGET_PERIOD_{config.period}"),
            split=pb.BudgetSplit.Value(f"BUDGET_SPLIT_{config.split}"),
            limit_micro_usd=config.limit_micro_usd,
            alarm_percents=config.alarm_percents,
            shadow=config.shadow,
            on_exhausted=pb.BudgetAction.Value(f"BUDGET_ACTION_{config.on_exhausted}"),
        )
    )
    message.etag = budget.etag
    message.budget_id = str(budget.budget_id)
    message.create_time.FromDatetime(budget.created_at)
    message.update_time.FromDatetime(budget.updated_at)
    if account is not None:
        write_account(account, message.account)


def write_account(account: Account, message: pb.BudgetAccount) -> None:
    """Writes an account."""
    message.SetInParent()
    message.key = account.key
    if account.period_start is not None:
        message.period_start.FromDatetime(account.period_start)
    if account.period_end is not None:
        message.period_end.FromDatetime(account.period_end)
    message.spent_micro_usd = account.spent
    message.reserved_micro_usd = account.reserved
    message.left_micro_usd = account.left
    message.refusals = account.refusals
    message.alarmed_percent = account.alarmed_percent
    message.lost_micro_usd = account.lost


def page_size_of(size: int) -> int:
    """Returns the number of entries on a page.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if size < 0:
        raise field_invalid("page_size", "must not be negative")
    return min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def account_token(tenant_id: str, last: Account) -> str:
    """Returns the token of the page of accounts behind one."""
    start = _EPOCH if last.period_start is None else last.period_start
    return ACCOUNT_PAGES.make(tenant_id, f"{start.isoformat()} {last.key}")


def account_of_token(tenant_id: str, token: str) -> tuple[datetime, str] | None:
    """Returns the period and the key behind which a page begins; None for the first.

    Raises:
        StepwireError: PAGE_TOKEN_INVALID.
    """
    last = ACCOUNT_PAGES.read(tenant_id, token)
    if not last:
        return None
    start, _, key = last.partition(" ")
    try:
        return datetime.fromisoformat(start), key
    except ValueError:
        raise StepwireError(
            Reason.PAGE_TOKEN_INVALID, "page_token: is no token", metadata={"field": "page_token"}
        ) from None


def _member(known: Mapping[int, E], number: int, field: str, what: str) -> E:
    if number not in known:
        raise field_invalid(field, f"{number} is not {what}")
    return known[number]


def _scope(message: pb.BudgetConfig) -> Scope:
    return Scope(message.scope.project, message.scope.task_id, message.scope.model)


def _action(message: pb.BudgetConfig) -> Action:
    return _member(_ACTIONS, message.on_exhausted, "config.on_exhausted", "an action")


_CHANGEABLE: Mapping[str, Callable[[pb.BudgetConfig], object]] = {
    "limit_micro_usd": lambda config: config.limit_micro_usd,
    "alarm_percents": lambda config: tuple(config.alarm_percents),
    "shadow": lambda config: config.shadow,
    "on_exhausted": _action,
}
"""How the fields that may change are read."""
