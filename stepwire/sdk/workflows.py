"""The registered workflows, for programs."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import grpc.aio

from stepwire.api.executor.v1 import workflow_service_pb2 as pb
from stepwire.api.executor.v1.graph_pb2 import Graph
from stepwire.api.executor.v1.workflow_service_pb2_grpc import (
    WorkflowServiceAsyncStub,
    WorkflowServiceStub,
)
from stepwire.sdk.failures import raising_ours

PAGE_SIZE = 100


class Workflows:
    """Graphs under names, in versions. Every method raises `StepwireError`.

    Args:
        channel: To the gateway; the caller closes it.
        target: What `channel` leads to, for error messages.
        timeout: Longest time for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, *, target: str, timeout: timedelta) -> None:
        self._stub: WorkflowServiceAsyncStub = WorkflowServiceStub(channel)
        self._target = target
        self._timeout_seconds = timeout.total_seconds()

    async def register(
        self,
        name: str,
        graph: Graph,
        *,
        version: str = "",
        description: str = "",
        labels: Mapping[str, str] | None = None,
        priority: int = 0,
        validate_only: bool = False,
    ) -> pb.WorkflowVersion:
        """Registers a version and returns it; again and unchanged, this has no effect.

        Args:
            name: The workflow's name.
            graph: What its tasks do.
            version: The version; empty means the newest one if it is the same, else the next
                whole number.
            description: For people.
            labels: What tasks get besides their own labels.
            priority: What tasks get that have none of their own; 0 means 5.
            validate_only: Only checks the request, and records nothing.
        """
        request = pb.RegisterWorkflowRequest(
            name=name,
            version=version,
            graph=graph,
            description=description,
            defaults=pb.WorkflowDefaults(labels=labels or {}, priority=priority),
            validate_only=validate_only,
        )
        with raising_ours(self._target):
            response = await self._stub.RegisterWorkflow(request, timeout=self._timeout_seconds)
        return response.workflow

    async def get(self, name: str, version: str = "") -> pb.WorkflowVersion:
        """Reads a version with its graph; an empty version means the newest."""
        request = pb.GetWorkflowRequest(name=name, version=version)
        with raising_ours(self._target):
            response = await self._stub.GetWorkflow(request, timeout=self._timeout_seconds)
        return response.workflow

    async def find(self) -> AsyncIterator[pb.WorkflowVersion]:
        """Yields the newest version of each workflow, by name, without graphs."""
        request = pb.ListWorkflowsRequest(page_size=PAGE_SIZE)
        while True:
            with raising_ours(self._target):
                response = await self._stub.ListWorkflows(request, timeout=self._timeout_seconds)
            for workflow in response.workflows:
                yield workflow
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    async def versions(self, name: str) -> AsyncIterator[pb.WorkflowVersion]:
        """Yields a workflow's versions, the last first, without graphs."""
        request = pb.ListWorkflowVersionsRequest(name=name, page_size=PAGE_SIZE)
        while True:
            with raising_ours(self._target):
                response = await self._stub.ListWorkflowVersions(
                    request, timeout=self._timeout_seconds
                )
            for version in response.versions:
                yield version
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    async def deprecate(self, name: str, version: str) -> pb.WorkflowVersion:
        """Lets a version take no new tasks, and returns it; tasks that run go on."""
        return await self._set_state(name, version, pb.WORKFLOW_VERSION_STATE_DEPRECATED)

    async def activate(self, name: str, version: str) -> pb.WorkflowVersion:
        """Lets a deprecated version take new tasks again, and returns it."""
        return await self._set_state(name, version, pb.WORKFLOW_VERSION_STATE_ACTIVE)

    async def delete(self, name: str, version: str) -> None:
        """Deletes a version that was never used."""
        request = pb.DeleteWorkflowVersionRequest(name=name, version=version)
        with raising_ours(self._target):
            await self._stub.DeleteWorkflowVersion(request, timeout=self._timeout_seconds)

    async def validate(self, graph: Graph) -> pb.ValidateGraphResponse:
        """Returns all that is wrong with a graph, or else what it looks like."""
        with raising_ours(self._target):
            return await self._stub.ValidateGraph(
                pb.ValidateGraphRequest(graph=graph), timeout=self._timeout_seconds
            )

    async def _set_state(
        self, name: str, version: str, state: "pb.WorkflowVersionState.ValueType"
    ) -> pb.WorkflowVersion:
        request = pb.SetWorkflowVersionStateRequest(name=name, version=version, state=state)
        with raising_ours(self._target):
            response = await self._stub.SetWorkflowVersionState(
                request, timeout=self._timeout_seconds
            )
        return response.workflow
