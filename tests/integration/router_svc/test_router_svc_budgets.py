"""Budgets and usage through the API, on two instances that share a record."""

from typing import Any

import grpc.aio
import pytest

from stepwire.api.router.v1 import budget_pb2, decision_pb2
from stepwire.api.router.v1 import budget_service_pb2 as pb
from stepwire.api.router.v1 import requirements_pb2 as requirements_pb
from stepwire.api.router.v1 import router_service_pb2 as router_pb
from stepwire.errors import Reason
from stepwire.testing.poll import eventually
from tests.integration.router_svc.budget_tenants import NAMED, Tenant, shared, tenant
from tests.integration.router_svc.running_router import ask, error_of

__all__ = ["shared", "tenant"]


async def test_a_budget_is_created_changed_listed_and_deleted(tenant: Tenant) -> None:
    scope = budget_pb2.BudgetScope(project="atlas", model="dear")
    config = {"scope": scope, "alarm_percents": [50, 100], "shadow": True}
    config["period"] = budget_pb2.BUDGET_PERIOD_DAY
    made = await tenant.create("daily", 5_000, **config)
    assert await tenant.create("daily", 5_000, **config) == made
    assert made.config.split == budget_pb2.BUDGET_SPLIT_NONE
    assert made.config.on_exhausted == budget_pb2.BUDGET_ACTION_CHEAPER_MODEL
    assert made.account.left_micro_usd == 5_000
    span = made.account.period_end.seconds - made.account.period_start.seconds
    assert span == 24 * 3600
    taken = await error_of(tenant.create("daily", 5_001, **config))
    assert (taken.reason, taken.metadata) == (Reason.BUDGET_EXISTS, {"budget": "daily"})

    other = await tenant.create("total", 0, period=budget_pb2.BUDGET_PERIOD_TOTAL)
    assert not other.account.HasField("period_end")
    first = await tenant.budgets.ListBudgets(
        pb.ListBudgetsRequest(page_size=1), metadata=tenant.metadata
    )
    rest = await tenant.budgets.ListBudgets(
        pb.ListBudgetsRequest(page_token=first.next_page_token), metadata=tenant.metadata
    )
    assert [each.name for each in (*first.budgets, *rest.budgets)] == ["daily", "total"]
    assert not rest.next_page_token

    changed = (await tenant.update("daily", "shadow", etag=made.etag)).budget
    assert not changed.config.shadow
    assert list(changed.config.alarm_percents) == [50, 100]
    stale = await error_of(tenant.update("daily", "shadow", etag=made.etag))
    assert stale.reason is Reason.BUDGET_CHANGED
    assert stale.metadata == {"budget": "daily", "etag": changed.etag}
    for fields in ({"period": budget_pb2.BUDGET_PERIOD_HOUR}, {"scope": budget_pb2.BudgetScope()}):
        refused = await error_of(tenant.update("daily", **fields))
        assert refused.metadata == {"field": f"config.{next(iter(fields))}"}

    delete = pb.DeleteBudgetRequest(name="daily", etag=changed.etag)
    await tenant.budgets.DeleteBudget(delete, metadata=tenant.metadata)
    gone = await error_of(tenant.get("daily"))
    assert (gone.reason, gone.metadata) == (Reason.BUDGET_NOT_FOUND, {"budget": "daily"})
    # Another tenant never saw any of it.
    tenant.tenant_id += "x"
    assert (await error_of(tenant.get("total"))).reason is Reason.BUDGET_NOT_FOUND


@pytest.mark.parametrize(
    ("field", "config"),
    [
        ("config.limit_micro_usd", {"limit_micro_usd": -1}),
        ("config.limit_micro_usd", {"limit_micro_usd": 10**15 + 1}),
        ("config.period", {"period": 0}),
        ("config.period", {"period": 99}),
        ("config.split", {"split": 99}),
        ("config.on_exhausted", {"on_exhausted": 99}),
        ("config.alarm_percents", {"alarm_percents": [0]}),
        ("config.alarm_percents", {"alarm_percents": [101]}),
        ("config.alarm_percents", {"alarm_percents": [80, 50]}),
        ("config.alarm_percents", {"alarm_percents": range(1, 12)}),
        ("config.scope.project", {"scope": budget_pb2.BudgetScope(project="p" * 101)}),
        ("config.scope.model", {"scope": budget_pb2.BudgetScope(model="\0")}),
        ("name", {"name": "Not a name"}),
    ],
)
async def test_bad_budgets_are_refused_by_field(
    tenant: Tenant, field: str, config: dict[str, Any]
) -> None:
    given = {"name": "bad", "limit": config.pop("limit_micro_usd", 1), **config}
    error = await error_of(tenant.create(**given))
    assert (error.reason, error.metadata) == (Reason.FIELD_INVALID, {"field": field})


async def test_other_bad_fields_are_refused(tenant: Tenant) -> None:
    await tenant.create("good", 1)
    errors = [
        await error_of(tenant.update("good", "period")),
        await error_of(
            tenant.budgets.ListBudgets(
                pb.ListBudgetsRequest(page_size=-1), metadata=tenant.metadata
            )
        ),
        await error_of(tenant.used("DAY", "HOUR")),
        await error_of(tenant.used("UNSPECIFIED")),
        await error_of(tenant.used(start_time={"seconds": 10**10})),
        await error_of(tenant.used(start_time={"seconds": 0})),
        await error_of(tenant.used(end_time={"seconds": 253402300799})),
        await error_of(tenant.used(end_time={"seconds": -62135596800})),
        await error_of(tenant.used(project="a\0b")),
        await error_of(
            tenant.budgets.ListBudgetAccounts(
                pb.ListBudgetAccountsRequest(name="good", key="\0"), metadata=tenant.metadata
            )
        ),
        await error_of(tenant.generate(project="p" * 101)),
        await error_of(tenant.generate(task="\0")),
    ]
    assert [each.metadata["field"] for each in errors] == [
        *("update_mask", "page_size", "group_by", "group_by", "start_time", "start_time"),
        *("end_time", "end_time", "project", "key"),
        *("attribution.project", "attribution.task_id"),
    ]
    assert {each.reason for each in errors} == {Reason.FIELD_INVALID}


async def test_what_calls_cost_is_charged_and_can_be_looked_up(tenant: Tenant) -> None:
    await tenant.create("all", 10**6)
    await tenant.create("atlas", 10**6, scope=budget_pb2.BudgetScope(project="atlas"))
    await tenant.create("tasks", 10**6, split=budget_pb2.BUDGET_SPLIT_TASK)
    first = await tenant.generate(project="atlas", task="t1", requirements=NAMED["cheap"])
    second = await tenant.generate(task="t2", requirements=NAMED["dear"])
    third = await tenant.generate(requirements=NAMED["cheap"])
    costs = [each.usage.cost_micro_usd for each in (first, second, third)]
    assert min(costs) > 0
    assert (await tenant.settled("all")).spent_micro_usd == sum(costs)
    assert (await tenant.settled("atlas")).spent_micro_usd == costs[0]
    listed = await tenant.budgets.ListBudgetAccounts(
        pb.ListBudgetAccountsRequest(name="tasks", page_size=1), metadata=tenant.metadata
    )
    rest = await tenant.budgets.ListBudgetAccounts(
        pb.ListBudgetAccountsRequest(name="tasks", page_token=listed.next_page_token),
        metadata=tenant.metadata,
    )
    tasks = {each.key: each.spent_micro_usd for each in (*listed.accounts, *rest.accounts)}
    assert tasks == {"t1": costs[0], "t2": costs[1]}

    by_model = await tenant.used("MODEL", "DAY")
    assert [(each.model, each.calls, each.answered) for each in by_model] == [
        ("cheap", 2, 2),
        ("dear", 1, 1),
    ]
    assert by_model[0].cost_micro_usd == costs[0] + costs[2]
    assert by_model[0].output_tokens == first.usage.output_tokens + third.usage.output_tokens
    by_task = await tenant.used("TASK", "STEP", "PROJECT")
    assert [(each.project, each.task_id, each.step_id) for each in by_task] == [
        ("", "", ""),
        ("", "t2", "s"),
        ("atlas", "t1", "s"),
    ]
    (one,) = await tenant.used(project="atlas")
    (same,) = await tenant.used(task_id="t1")
    assert one == same
    assert one.cost_micro_usd == costs[0]
    assert not await tenant.used(model="unknown")


async def test_an_exhausted_budget_leads_to_a_cheaper_model_then_to_a_refusal(
    tenant: Tenant,
) -> None:
    await tenant.create("little", 9_000, scope=budget_pb2.BudgetScope(project="atlas"))
    # The best model could cost more than there is.
    first = await tenant.generate(
        project="atlas", requirements=requirements_pb.Requirements(min_quality=0.4), documents=[]
    )
    assert first.model == "cheap"
    best = requirements_pb.Requirements(min_quality=0.9)
    over = await error_of(tenant.generate(project="atlas", requirements=best))
    assert over.reason is Reason.BUDGET_EXHAUSTED
    assert over.metadata["budget"] == "little"
    assert int(over.metadata["needed_micro_usd"]) > 9_000 > int(over.metadata["left_micro_usd"])
    assert over.metadata["resets_at"].endswith("00:00:00+00:00")
    assert over.retry_after is not None
    # Others are not concerned.
    assert (await tenant.generate(requirements=best)).model == "dear"


async def test_the_next_cheaper_model_answers_and_the_reason_is_told(tenant: Tenant) -> None:
    await tenant.create("little", 9_000)
    text = "Explain step by step why the river rose, and compare it with the year before."
    answer = await tenant.router().Generate(ask(text), metadata=tenant.metadata)
    assert answer.model == "cheap"
    told = [each for each in answer.attempts if each.model == "dear"]
    rejected = [each for each in answer.decision.candidates if each.model == "dear"]
    assert [(each.kind, each.called) for each in told] == [("over_budget", False)] * len(told)
    assert told or decision_pb2.REJECTION_CODE_BUDGET in rejected[0].rejection_codes


async def test_what_was_seen_of_a_budget_is_part_of_decisions(tenant: Tenant) -> None:
    await tenant.create("little", 100)
    spent = await error_of(tenant.generate(requirements=NAMED["dear"]))
    assert spent.reason is Reason.BUDGET_EXHAUSTED
    request = router_pb.DecideRequest(request=ask())
    decide = tenant.router().Decide(request, metadata=tenant.metadata)
    refused = await error_of(decide)
    assert refused.reason is Reason.BUDGET_EXHAUSTED
    assert refused.metadata["budget"] == "little"


async def test_a_budget_that_refuses_tries_no_cheaper_model(tenant: Tenant) -> None:
    await tenant.create(
        "strict",
        0,
        scope=budget_pb2.BudgetScope(model="dear"),
        on_exhausted=budget_pb2.BUDGET_ACTION_REFUSE,
        period=budget_pb2.BUDGET_PERIOD_TOTAL,
    )
    error = await error_of(tenant.generate())
    assert error.reason is Reason.BUDGET_EXHAUSTED
    assert (error.metadata["resets_at"], error.retry_after) == ("", None)


async def test_of_two_budgets_the_one_that_refuses_decides(tenant: Tenant) -> None:
    for name, action in (
        ("gentle", budget_pb2.BUDGET_ACTION_CHEAPER_MODEL),
        ("strict", budget_pb2.BUDGET_ACTION_REFUSE),
    ):
        scope = budget_pb2.BudgetScope(model="dear")
        await tenant.create(name, 0, scope=scope, on_exhausted=action)
    error = await error_of(tenant.generate())
    assert (error.reason, error.metadata["budget"]) == (Reason.BUDGET_EXHAUSTED, "strict")


async def test_in_shadow_mode_nothing_is_refused(tenant: Tenant) -> None:
    await tenant.create("shadow", 1, shadow=True)
    answer = await tenant.generate()
    account = await tenant.settled("shadow")
    assert account.refusals == 1
    assert account.spent_micro_usd == answer.usage.cost_micro_usd
    assert account.left_micro_usd == 1 - account.spent_micro_usd


async def test_a_new_budget_and_a_new_limit_hold_on_the_other_instance(tenant: Tenant) -> None:
    await tenant.create("none", 0)

    async def refused() -> bool:
        try:
            await tenant.generate(instance=1)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return False

    await eventually(refused)
    await tenant.update("none", "limit_micro_usd", limit_micro_usd=10**6)

    # What was refused is remembered for decisions, and refuses no call.
    assert not await refused()
