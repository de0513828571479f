"""Budgets and usage through the API, on two instances that share a record."""

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from router_svc.budgets.store import PostgresVault
from stepwire.api.router.v1 import budget_pb2, decision_pb2
from stepwire.api.router.v1 import budget_service_pb2 as pb
from stepwire.api.router.v1 import requirements_pb2 as requirements_pb
from stepwire.api.router.v1 import router_service_pb2 as router_pb
from stepwire.api.router.v1 import usage_service_pb2 as usage_pb
from stepwire.api.router.v1.budget_service_pb2_grpc import BudgetServiceStub
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.api.router.v1.usage_service_pb2_grpc import UsageServiceStub
from stepwire.db import open_pool
from stepwire.errors import Reason
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.fleet import EndpointPlan, Fault, FaultKind, RandomFault, running_fleet
from stepwire.testing.fleet.latency import Constant, Uniform
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database
from tests.integration.router_svc.running_router import ask, chat_model, error_of, router_channel
from tests.integration.router_svc.test_router_svc_process import line_with, start

if TYPE_CHECKING:
    from stepwire.api.router.v1.budget_service_pb2_grpc import BudgetServiceAsyncStub
    from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceAsyncStub
    from stepwire.api.router.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

DAY = budget_pb2.BUDGET_PERIOD_DAY
# Price of a million tokens read, and quality; what is written costs five times as much.
MODELS = {"slow": (1, 0.1), "cheap": (1, 0.4), "dear": (5, 0.9), "shaky": (1, 0.1)}


@dataclass
class Tenant:
    """A tenant of a test's own, at two instances."""

    tenant_id: str
    channels: list[grpc.aio.Channel]

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-tenant-id", self.tenant_id),)

    @property
    def budgets(self) -> "BudgetServiceAsyncStub":
        return BudgetServiceStub(self.channels[0])

    @property
    def usage(self) -> "UsageServiceAsyncStub":
        return UsageServiceStub(self.channels[0])

    def router(self, instance: int = 0) -> "RouterServiceAsyncStub":
        return RouterServiceStub(self.channels[instance])

    async def create(self, name: str, limit: int, **config: Any) -> budget_pb2.Budget:
        wanted = budget_pb2.BudgetConfig(limit_micro_usd=limit, **{"period": DAY, **config})
        request = pb.CreateBudgetRequest(name=name, config=wanted)
        return (await self.budgets.CreateBudget(request, metadata=self.metadata)).budget

    async def get(self, name: str) -> budget_pb2.Budget:
        request = pb.GetBudgetRequest(name=name)
        return (await self.budgets.GetBudget(request, metadata=self.metadata)).budget

    async def settled(self, name: str) -> budget_pb2.BudgetAccount:
        """Returns the account, when nothing is held in it any more."""

        async def account() -> budget_pb2.BudgetAccount:
            found = (await self.get(name)).account
            assert not found.reserved_micro_usd
            return found

        return await eventually(account)

    def update(self, name: str, *paths: str, etag: str = "", **config: Any) -> Any:
        request = pb.UpdateBudgetRequest(
            name=name,
            config=budget_pb2.BudgetConfig(**config),
            update_mask=FieldMask(paths=paths),
            etag=etag,
        )
        return self.budgets.UpdateBudget(request, metadata=self.metadata)

    def generate(
        self, *, instance: int = 0, project: str = "", task: str = "", **fields: Any
    ) -> Any:
        by = requirements_pb.Attribution(project=project, task_id=task, step_id="s" if task else "")
        request = ask(attribution=by, **fields)
        return self.router(instance).Generate(request, metadata=self.metadata)

    async def used(self, *groups: str, **fields: Any) -> list[usage_pb.UsageSum]:
        request = usage_pb.GetUsageRequest(
            group_by=[usage_pb.UsageGroup.Value(f"USAGE_GROUP_{group}") for group in groups],
            **fields,
        )
        return list((await self.usage.GetUsage(request, metadata=self.metadata)).sums)


def bad_days() -> tuple[RandomFault, ...]:
    faults = [
        Fault(kind=FaultKind.SERVER_ERROR),
        Fault(kind=FaultKind.RATE_LIMITED, retry_after_seconds=0.05),
        Fault(kind=FaultKind.CUT, after_tokens=3),
        Fault(kind=FaultKind.HANG, after_tokens=1),
    ]
    return tuple(RandomFault(share=0.1, fault=fault) for fault in faults)


@dataclass
class Shared:
    """Two instances over one database, and the file of their catalogue."""

    url: str
    channels: list[grpc.aio.Channel]
    catalogue: Path


@pytest.fixture(scope="module")
async def shared(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shared]:
    """Two models that answer, one that often does not, and one that takes its time."""
    plans = [
        EndpointPlan(name="slow", latency_seconds=Constant(value=60.0)),
        EndpointPlan(name="cheap"),
        EndpointPlan(name="dear"),
        EndpointPlan(
            name="shaky",
            faults=bad_days(),
            latency_seconds=Uniform(low=0.0, high=0.02),
            answer_tokens=Uniform(low=1, high=60),
        ),
    ]
    settings: dict[str, Any] = {
        "hedge_share": 0.3,
        "retry_longest_wait_seconds": 0.2,
        "breaker_failures": 1_000,
        "embedding_deadline_seconds": 0,
    }
    async with AsyncExitStack() as stack:
        url = stack.enter_context(fresh_database(postgres))
        fleet = await stack.enter_async_context(running_fleet(*plans, seed=7))
        models = []
        for name, (rate, quality) in MODELS.items():
            model = chat_model(name, fleet[name].base_url)
            model["provider"]["model"] = "small"
            price = {
                "input_usd_per_million_tokens": rate,
                "output_usd_per_million_tokens": rate * 5,
            }
            model |= {"prices": [price], "quality": quality}
            models.append(model)
        models[-1]["timeout_seconds"] = 0.3
        folder = tmp_path_factory.mktemp("router")
        running = [router_channel(folder, *models, postgres_url=url, **settings) for _ in range(2)]
        channels = [await stack.enter_async_context(each) for each in running]
        yield Shared(url, channels, folder / "models.yaml")


@pytest.fixture
def tenant(shared: Shared) -> Tenant:
    return Tenant(f"tenant-{uuid.uuid4().hex[:12]}", shared.channels)


NAMED = {name: requirements_pb.Requirements(model=name) for name in MODELS}


async def test_a_budget_is_created_changed_listed_and_deleted(tenant: Tenant) -> None:
    scope = budget_pb2.BudgetScope(project="atlas", model="dear")
    config = {"scope": scope, "alarm_percents": [50, 100], "shadow": True}
    made = await tenant.create("monthly", 5_000, **config)
    assert await tenant.create("monthly", 5_000, **config) == made
    assert made.config.split == budget_pb2.BUDGET_SPLIT_NONE
    assert made.config.on_exhausted == budget_pb2.BUDGET_ACTION_CHEAPER_MODEL
    assert made.account.left_micro_usd == 5_000
    span = made.account.period_end.seconds - made.account.period_start.seconds
    assert span == 24 * 3600
    taken = await error_of(tenant.create("monthly", 5_001, **config))
    assert (taken.reason, taken.metadata) == (Reason.BUDGET_EXISTS, {"budget": "monthly"})

    other = await tenant.create("total", 0, period=budget_pb2.BUDGET_PERIOD_TOTAL)
    assert not other.account.HasField("period_end")
    first = await tenant.budgets.ListBudgets(
        pb.ListBudgetsRequest(page_size=1), metadata=tenant.metadata
    )
    rest = await tenant.budgets.ListBudgets(
        pb.ListBudgetsRequest(page_token=first.next_page_token), metadata=tenant.metadata
    )
    assert [each.name for each in (*first.budgets, *rest.budgets)] == ["monthly", "total"]
    assert not rest.next_page_token

    changed = (await tenant.update("monthly", "shadow", etag=made.etag)).budget
    assert not changed.config.shadow
    assert list(changed.config.alarm_percents) == [50, 100]
    stale = await error_of(tenant.update("monthly", "shadow", etag=made.etag))
    assert stale.reason is Reason.BUDGET_CHANGED
    assert stale.metadata == {"budget": "monthly", "etag": changed.etag}
    for fields in ({"period": budget_pb2.BUDGET_PERIOD_HOUR}, {"scope": budget_pb2.BudgetScope()}):
        refused = await error_of(tenant.update("monthly", **fields))
        assert refused.metadata == {"field": f"config.{next(iter(fields))}"}

    delete = pb.DeleteBudgetRequest(name="monthly", etag=changed.etag)
    await tenant.budgets.DeleteBudget(delete, metadata=tenant.metadata)
    gone = await error_of(tenant.get("monthly"))
    assert (gone.reason, gone.metadata) == (Reason.BUDGET_NOT_FOUND, {"budget": "monthly"})
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
        await error_of(tenant.generate(project="p" * 101)),
        await error_of(tenant.generate(task="\0")),
    ]
    assert [each.metadata["field"] for each in errors] == [
        *("update_mask", "page_size", "group_by", "group_by", "start_time", "start_time"),
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

    async def answered() -> bool:
        return not await refused()

    # What was refused is remembered for decisions, for two seconds at most.
    await eventually(answered)


async def spend(tenant: Tenant, random: Random, answers: list[int]) -> None:
    by = requirements_pb.Attribution(project="atlas", task_id=f"t{random.randrange(3)}")
    named = random.choice([None, "cheap", "shaky", "shaky"])
    request = ask(attribution=by, requirements=None if named is None else NAMED[named])
    stub = tenant.router(random.randrange(2))
    try:
        if random.random() < 0.5:
            answer = await stub.Generate(request, metadata=tenant.metadata, timeout=2)
            answers.append(answer.usage.cost_micro_usd)
            return
        wanted = router_pb.StreamGenerateRequest(request=request)
        call = stub.StreamGenerate(wanted, metadata=tenant.metadata, timeout=2)
        leaves_after = random.choice([1, 3, 10**6])
        async for piece in call:
            if piece.HasField("end"):
                answers.append(piece.end.usage.cost_micro_usd)
            leaves_after -= 1
            if not leaves_after:
                call.cancel()
                return
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
            raise
    except asyncio.CancelledError:
        # The call was cancelled, and not this test.
        pass


async def test_two_instances_never_spend_more_than_a_budget_whatever_fails(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    random, answers = Random(3), list[int]()
    await tenant.create("tight", 12_000, alarm_percents=[1, 2])
    await tenant.create("each", 6_000, split=budget_pb2.BUDGET_SPLIT_TASK)
    await eventually(lambda: tenant_is_known(tenant))
    with caplog.at_level(logging.WARNING, logger="router_svc.budgets.metrics"):
        for _ in range(6):
            await asyncio.gather(*(spend(tenant, random, answers) for _ in range(15)))
        account = await tenant.settled("tight")
        # An instance tells of an alarm when it has the answer of what it has written.
        await eventually(lambda: alarms_told(caplog, tenant))
    accounts = (
        await tenant.budgets.ListBudgetAccounts(
            pb.ListBudgetAccountsRequest(name="each"), metadata=tenant.metadata
        )
    ).accounts
    assert account.refusals > 0
    assert sum(answers) <= account.spent_micro_usd <= 12_000
    assert all(each.spent_micro_usd <= 6_000 for each in accounts)
    assert sum(each.spent_micro_usd for each in accounts) == account.spent_micro_usd
    # Each try is written down, with or without an answer, and nothing beside the tries.
    (total,) = await tenant.used(project="atlas")
    assert total.cost_micro_usd == account.spent_micro_usd
    assert total.answered >= len(answers)
    assert total.calls > total.answered
    percents = alarms_told(caplog, tenant)
    assert len(percents) == len(set(percents))


def alarms_told(caplog: pytest.LogCaptureFixture, tenant: Tenant) -> list[int]:
    """Returns of which shares of its limits a tenant was told."""
    told = [record for record in caplog.records if "share of its limit" in record.message]
    ours = [record for record in told if record.__dict__["tenant_id"] == tenant.tenant_id]
    return [record.__dict__["percent"] for record in ours]


async def tenant_is_known(tenant: Tenant) -> bool:
    """Returns whether the other instance knows of the budgets: it refuses what is too dear."""
    wanted = ask(requirements=NAMED["dear"], attribution=requirements_pb.Attribution(task_id="x"))
    wanted.documents.add(id="long", text="word " * 1_000)
    try:
        await tenant.router(1).Generate(wanted, metadata=tenant.metadata)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return False


async def test_what_a_killed_instance_held_is_charged(
    shared: Shared, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_KEY", "key")
    process = await start(
        PORT="0",
        HTTP_PORT="0",
        POSTGRES_URL=shared.url,
        CATALOGUE_PATH=str(shared.catalogue),
        BUDGET_LEASE_SECONDS="1",
    )
    try:
        ready = json.loads(await line_with(process, "is ready on"))
        async with grpc.aio.insecure_channel(ready["message"].split()[-1]) as channel:
            doomed = Tenant(tenant.tenant_id, [channel])
            await doomed.create("all", 10_000)
            calls = [
                asyncio.ensure_future(doomed.generate(requirements=NAMED["slow"])) for _ in range(5)
            ]
            await eventually(lambda: _held(tenant))
            process.kill()
            await asyncio.gather(*calls, return_exceptions=True)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    before = (await tenant.get("all")).account
    # Those that found room, and no more; the others were refused.
    assert 0 < before.reserved_micro_usd <= 10_000 - before.spent_micro_usd
    async with open_pool(shared.url, application_name="test", max_size=1) as pool:
        vault = PostgresVault(pool)

        async def charged() -> bool:
            await vault.expire(limit=100)
            return not (await tenant.get("all")).account.reserved_micro_usd

        await eventually(charged)
    after = (await tenant.get("all")).account
    assert after.lost_micro_usd == after.spent_micro_usd == before.reserved_micro_usd
    refused = await error_of(tenant.generate(requirements=NAMED["dear"]))
    assert refused.reason is Reason.BUDGET_EXHAUSTED


async def _held(tenant: Tenant) -> int:
    return (await tenant.get("all")).account.reserved_micro_usd
