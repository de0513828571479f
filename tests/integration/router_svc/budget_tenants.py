"""Tenants with budgets, on two instances that share a record."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from stepwire.api.router.v1 import budget_pb2
from stepwire.api.router.v1 import budget_service_pb2 as pb
from stepwire.api.router.v1 import requirements_pb2 as requirements_pb
from stepwire.api.router.v1 import usage_service_pb2 as usage_pb
from stepwire.api.router.v1.budget_service_pb2_grpc import BudgetServiceStub
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.api.router.v1.usage_service_pb2_grpc import UsageServiceStub
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.fleet import EndpointPlan, Fault, FaultKind, RandomFault, running_fleet
from stepwire.testing.fleet.latency import Constant, Uniform
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database
from tests.integration.router_svc.running_router import ask, chat_model, router_channel

if TYPE_CHECKING:
    from stepwire.api.router.v1.budget_service_pb2_grpc import BudgetServiceAsyncStub
    from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceAsyncStub
    from stepwire.api.router.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

# Seldom over while a test runs.
MONTH = budget_pb2.BUDGET_PERIOD_MONTH
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
        wanted = budget_pb2.BudgetConfig(limit_micro_usd=limit, **{"period": MONTH, **config})
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
