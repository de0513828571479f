"""What part of a queue a tenant gets is set by a call."""

import pytest

from executor_svc.store.release import PostgresReleaseStore
from stepwire.api.executor.v1 import tenant_weight_pb2 as weights_pb
from stepwire.db import open_pool
from stepwire.errors import Reason
from tests.integration.executor_svc.executor_mesh import refused
from tests.integration.executor_svc.limit_record import REPUBLISH, LimitRecord
from tests.integration.executor_svc.queue_client import QueueClient, queue_client

STEPS = 200


class WeightClient(QueueClient):
    """The calls on weights; their messages are in a file of their own."""

    async def weigh(self, tenant_id, weight):
        request = weights_pb.SetTenantWeightRequest(tenant_id=tenant_id, weight=weight)
        return (await self.stub.SetTenantWeight(request)).tenant

    async def weights(self):
        """All weights, a page of one at a time."""
        found, request = {}, weights_pb.ListTenantWeightsRequest(page_size=1)
        while True:
            page = await self.stub.ListTenantWeights(request)
            found |= {tenant.tenant_id: tenant.weight for tenant in page.tenants}
            request.page_token = page.next_page_token
            if not request.page_token:
                return found


@pytest.fixture
async def weights(mesh):
    async with queue_client(mesh) as client:
        yield WeightClient(client.stub)


async def test_a_tenant_of_greater_weight_gets_more_of_the_queue(mesh, weights):
    await weights.weigh("heavy", 3)
    async with open_pool(mesh.database_url, application_name="test") as pool:
        record = LimitRecord(pool)
        for tenant in ("heavy", "light"):
            await record.task(*(f"s{place}" for place in range(STEPS)), tenant=tenant)
        await pool.execute("UPDATE executor.steps SET due_at = NULL")
        await PostgresReleaseStore(pool, republish_after=REPUBLISH).release("default", room=100)
        rows = await pool.fetch(
            "SELECT tenant_id, count(*) AS n FROM executor.steps WHERE due_at IS NOT NULL"
            " GROUP BY tenant_id ORDER BY tenant_id"
        )
    shares = {row["tenant_id"]: row["n"] for row in rows}
    # The executor's own releaser has its share of the room by the same rule.
    assert shares["heavy"] / shares["light"] == pytest.approx(3, rel=0.2)


async def test_weights_are_listed_and_one_is_none(weights):
    for tenant, weight in (("b", 2), ("a", 1000), ("c", 5), ("c", 6), ("d", 4), ("d", 0)):
        assert (await weights.weigh(tenant, weight)).weight == (weight or 1)
    assert await weights.weights() == {"a": 1000, "b": 2, "c": 6}
    await weights.weigh("b", 1)
    assert await weights.weights() == {"a": 1000, "c": 6}


@pytest.mark.parametrize(
    ("tenant", "weight", "field"),
    [("", 1, "tenant_id"), ("x" * 201, 1, "tenant_id"), ("a", -1, "weight"), ("a", 1001, "weight")],
)
async def test_a_bad_weight_is_refused(weights, tenant, weight, field):
    async with refused() as why:
        await weights.weigh(tenant, weight)
    assert why().reason == Reason.FIELD_INVALID
    assert [fault.field for fault in why().faults] == [field]
