"""What a budget must be like, and the errors that speak of one. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Final

from router_svc.budgets.records import Budget, Config, Standing
from router_svc.catalogue.prices import MICRO_USD_PER_USD
from stepwire.errors import Reason, StepwireError, field_invalid

MAX_LIMIT_MICRO_USD: Final = 10**15
MAX_ALARMS: Final = 10
MAX_SCOPE_CHARACTERS: Final = 100
MAX_MODEL_CHARACTERS: Final = 48
_WHOLE: Final = 100


def check_config(config: Config) -> None:
    """Sees that a configuration keeps the rules.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    scope = config.scope
    for field, text, most in (
        ("project", scope.project, MAX_SCOPE_CHARACTERS),
        ("task_id", scope.task_id, MAX_SCOPE_CHARACTERS),
        ("model", scope.model, MAX_MODEL_CHARACTERS),
    ):
        if len(text) > most or "\0" in text:
            raise field_invalid(f"config.scope.{field}", f"must be at most {most} characters")
    if not 0 <= config.limit_micro_usd <= MAX_LIMIT_MICRO_USD:
        raise field_invalid(
            "config.limit_micro_usd",
            f"{config.limit_micro_usd} must be from 0 to {MAX_LIMIT_MICRO_USD}",
        )
    percents = config.alarm_percents
    if len(percents) > MAX_ALARMS:
        raise field_invalid("config.alarm_percents", f"must be at most {MAX_ALARMS}")
    if any(not 1 <= percent <= _WHOLE for percent in percents):
        raise field_invalid("config.alarm_percents", f"must each be from 1 to {_WHOLE}")
    if list(percents) != sorted(set(percents)):
        raise field_invalid("config.alarm_percents", "must rise")


def not_found(name: str) -> StepwireError:
    """Returns BUDGET_NOT_FOUND."""
    return StepwireError(
        Reason.BUDGET_NOT_FOUND, f"there is no budget {name!r}", metadata={"budget": name}
    )


def exists(name: str) -> StepwireError:
    """Returns BUDGET_EXISTS."""
    return StepwireError(
        Reason.BUDGET_EXISTS,
        f"budget {name!r} exists with another configuration",
        metadata={"budget": name},
    )


def changed(budget: Budget) -> StepwireError:
    """Returns BUDGET_CHANGED, with the etag that the budget has."""
    return StepwireError(
        Reason.BUDGET_CHANGED,
        f"budget {budget.name!r} was changed meanwhile",
        metadata={"budget": budget.name, "etag": budget.etag},
    )


def exhausted(budget: Budget, key: str, standing: Standing, needed_micro_usd: int) -> StepwireError:
    """Returns BUDGET_EXHAUSTED for a call that needs more than an account has left."""
    ends_at = standing.ends_at
    wait = None if ends_at is None else max(ends_at - datetime.now(UTC), timedelta(0))
    whose = f" for {key}" if key else ""
    again = "" if ends_at is None else f"; it begins anew at {ends_at:%Y-%m-%d %H:%M} UTC"
    return StepwireError(
        Reason.BUDGET_EXHAUSTED,
        f"the call can cost {_usd(needed_micro_usd)}, and budget {budget.name!r}{whose} has"
        f" {_usd(max(standing.left, 0))} of {_usd(standing.limit)} left{again}",
        metadata={
            "budget": budget.name,
            "key": key,
            "needed_micro_usd": str(needed_micro_usd),
            "left_micro_usd": str(standing.left),
            "resets_at": "" if ends_at is None else ends_at.isoformat(),
        },
        retry_after=wait,
    )


def _usd(micro: int) -> str:
    return f"${micro / MICRO_USD_PER_USD:.6f}".rstrip("0").rstrip(".")
