"""The workflows of one tenant, as a client of the executor sees them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from stepwire.api.executor.v1 import graph_pb2
from stepwire.api.executor.v1 import workflow_service_pb2 as pb
from stepwire.api.executor.v1.workflow_service_pb2_grpc import WorkflowServiceStub
from stepwire.call import call_context
from stepwire.rpc import open_channel


@dataclass
class WorkflowClient:
    """The service as one tenant sees it."""

    stub: Any
    tenant: str

    def of(self, tenant: str) -> "WorkflowClient":
        return WorkflowClient(self.stub, tenant)

    async def call(self, method: str, request: Any) -> Any:
        with call_context(tenant_id=self.tenant):
            return await getattr(self.stub, method)(request)

    async def register(
        self, name: str, graph: graph_pb2.Graph, version: str = "", **fields: Any
    ) -> pb.WorkflowVersion:
        request = pb.RegisterWorkflowRequest(name=name, version=version, graph=graph, **fields)
        registered: pb.WorkflowVersion = (await self.call("RegisterWorkflow", request)).workflow
        return registered

    async def get(self, name: str, version: str = "") -> pb.WorkflowVersion:
        request = pb.GetWorkflowRequest(name=name, version=version)
        found: pb.WorkflowVersion = (await self.call("GetWorkflow", request)).workflow
        return found

    async def deprecate(self, name: str, version: str) -> pb.WorkflowVersion:
        return await self.set_state(name, version, "DEPRECATED")

    async def set_state(self, name: str, version: str, state: str) -> pb.WorkflowVersion:
        request = pb.SetWorkflowVersionStateRequest(
            name=name,
            version=version,
            state=pb.WorkflowVersionState.Value(f"WORKFLOW_VERSION_STATE_{state}"),
        )
        changed: pb.WorkflowVersion = (await self.call("SetWorkflowVersionState", request)).workflow
        return changed

    async def delete(self, name: str, version: str) -> None:
        request = pb.DeleteWorkflowVersionRequest(name=name, version=version)
        await self.call("DeleteWorkflowVersion", request)

    async def versions(self, name: str) -> list[str]:
        """All versions, a page of two at a time."""
        found: list[str] = []
        request = pb.ListWorkflowVersionsRequest(name=name, page_size=2)
        while True:
            response = await self.call("ListWorkflowVersions", request)
            found += [version.version for version in response.versions]
            request.page_token = response.next_page_token
            if not request.page_token:
                return found

    async def list(self) -> list[tuple[str, str]]:
        """Names and newest versions of all workflows, a page of two at a time."""
        found: list[tuple[str, str]] = []
        request = pb.ListWorkflowsRequest(page_size=2)
        while True:
            response = await self.call("ListWorkflows", request)
            found += [(workflow.name, workflow.version) for workflow in response.workflows]
            request.page_token = response.next_page_token
            if not request.page_token:
                return found

    async def validate(self, graph: graph_pb2.Graph) -> pb.ValidateGraphResponse:
        request = pb.ValidateGraphRequest(graph=graph)
        response: pb.ValidateGraphResponse = await self.call("ValidateGraph", request)
        return response


@asynccontextmanager
async def workflow_client(address: str, tenant: str) -> AsyncIterator[WorkflowClient]:
    async with open_channel(address, retry_unavailable=False) as channel:
        yield WorkflowClient(WorkflowServiceStub(channel), tenant)
