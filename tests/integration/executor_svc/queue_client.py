"""A client of QueueService for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from stepwire.api.executor.v1 import queue_service_pb2 as pb
from stepwire.api.executor.v1.queue_service_pb2_grpc import QueueServiceStub
from stepwire.call import call_context
from stepwire.rpc import open_channel
from tests.integration.executor_svc.executor_mesh import Mesh


@dataclass
class QueueClient:
    """QueueService as one tenant sees it."""

    stub: Any
    tenant: str = "default"

    async def call(self, method: str, **fields: Any) -> Any:
        """Call a method with a request of these fields."""
        request = getattr(pb, f"{method}Request")(**fields)
        with call_context(tenant_id=self.tenant):
            return await getattr(self.stub, method)(request)

    async def queue(self, name: str = "default") -> pb.Queue:
        queue: pb.Queue = (await self.call("GetQueue", queue=name)).queue
        return queue

    async def workers(self) -> list[pb.Worker]:
        return list((await self.call("ListWorkers")).workers)

    async def reasons(self, **conditions: Any) -> dict[str, int]:
        """How many steps failed, by reason."""
        page = await self.call("ListFailedSteps", filter=conditions)
        return {each.reason: each.steps for each in page.reasons}


@asynccontextmanager
async def queue_client(mesh: Mesh, tenant: str = "default") -> AsyncIterator[QueueClient]:
    async with open_channel(mesh.server.address, retry_unavailable=False) as channel:
        yield QueueClient(QueueServiceStub(channel), tenant)


def state_of(queue: pb.Queue) -> str:
    return pb.QueueState.Name(queue.state).removeprefix("QUEUE_STATE_")
