"""Budgets are never overspent, whatever fails: calls, streams, an instance."""

import asyncio
import json
import logging
from random import Random

import grpc.aio
import pytest

from router_svc.budgets.store import PostgresVault
from stepwire.api.router.v1 import budget_pb2
from stepwire.api.router.v1 import budget_service_pb2 as pb
from stepwire.api.router.v1 import requirements_pb2 as requirements_pb
from stepwire.api.router.v1 import router_service_pb2 as router_pb
from stepwire.db import open_pool
from stepwire.errors import Reason
from stepwire.testing.poll import eventually
from tests.integration.router_svc.budget_tenants import NAMED, Shared, Tenant, shared, tenant
from tests.integration.router_svc.running_router import ask, error_of
from tests.integration.router_svc.test_router_svc_process import line_with, start

__all__ = ["shared", "tenant"]


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
    await eventually(lambda: tenant_is_known(tenant, instance=1))
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


async def tenant_is_known(tenant: Tenant, *, instance: int) -> bool:
    """Returns whether an instance knows of the budgets: it refuses what is too dear."""
    wanted = ask(requirements=NAMED["dear"], attribution=requirements_pb.Attribution(task_id="x"))
    wanted.documents.add(id="long", text="word " * 1_000)
    try:
        await tenant.router(instance).Generate(wanted, metadata=tenant.metadata)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return False


# Of who holds money of a tenant.
LEASE_IS_OVER = """
UPDATE router.sessions SET expires_at = now() WHERE session_id IN (
    SELECT r.session_id FROM router.reservations r
    JOIN router.budgets b ON b.budget_id = ANY (r.budgets)
    WHERE r.lost_at IS NULL AND b.tenant_id = $1
)
"""


async def test_what_a_killed_instance_held_is_charged(
    shared: Shared, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_KEY", "key")
    process = await start(
        PORT="0",
        HTTP_PORT="0",
        POSTGRES_URL=shared.url,
        CATALOGUE_PATH=str(shared.catalogue),
        # Longer than it takes to look at what is held before it is charged.
        BUDGET_LEASE_SECONDS="600",
    )
    try:
        ready = json.loads(await line_with(process, "is ready on"))
        async with grpc.aio.insecure_channel(ready["message"].split()[-1]) as channel:
            doomed = Tenant(tenant.tenant_id, [channel])
            await doomed.create("all", 10_000)
            calls = [
                asyncio.ensure_future(doomed.generate(requirements=NAMED["slow"])) for _ in range(5)
            ]
            # One is refused when all that there is room for is held, and written.
            await eventually(lambda: any(call.done() for call in calls))
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
        await vault.expire(limit=100)
        assert (await tenant.get("all")).account == before
        await pool.execute(LEASE_IS_OVER, tenant.tenant_id)

        async def charged() -> bool:
            await vault.expire(limit=100)
            return not (await tenant.get("all")).account.reserved_micro_usd

        await eventually(charged)
    after = (await tenant.get("all")).account
    assert after.lost_micro_usd == after.spent_micro_usd == before.reserved_micro_usd
    await eventually(lambda: tenant_is_known(tenant, instance=0))
    refused = await error_of(tenant.generate(requirements=NAMED["dear"]))
    assert refused.reason is Reason.BUDGET_EXHAUSTED
