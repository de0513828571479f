"""What an instance knows of budgets."""

from datetime import UTC, datetime
from uuid import UUID

from router_svc.budgets.knowledge import Knowledge
from router_svc.budgets.records import Budget, Change, Config, Period
from router_svc.generate.records import Caller

BUDGET_ID = UUID(int=1)


def change(version: int, limit: int | None) -> Change:
    now = datetime.now(UTC)
    budget = None
    if limit is not None:
        config = Config(Period.DAY, limit)
        budget = Budget(BUDGET_ID, "ours", "daily", config, version, now, now)
    return Change(BUDGET_ID, "ours", version, budget)


def test_what_was_read_earlier_and_comes_later_changes_nothing() -> None:
    knowledge = Knowledge(lambda: 0.0)
    knowledge.learn([change(5, 10), change(6, 20)])
    knowledge.learn([change(5, 10)])
    (budget,) = knowledge.covering(Caller("ours"), "small").values()
    assert (budget.config.limit_micro_usd, knowledge.version) == (20, 6)
    knowledge.learn([change(7, None)])
    knowledge.learn([change(6, 20)])
    assert not knowledge.covering(Caller("ours"), "small")
