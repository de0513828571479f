"""The calls on workflows: decode, one call into the domain, encode."""

import asyncio
from typing import Any

import grpc.aio

from executor_svc.graphs.cache import GraphCache
from executor_svc.graphs.compile import GraphLimits
from executor_svc.tasks.fields import page_size_of
from executor_svc.workflows import codec
from executor_svc.workflows.problems import problems_of
from executor_svc.workflows.registry import Workflows
from stepwire.api.executor.v1 import workflow_service_pb2 as pb
from stepwire.api.executor.v1.workflow_service_pb2_grpc import WorkflowServiceServicer
from stepwire.call import current_call
from stepwire.names import check_name

Context = grpc.aio.ServicerContext[Any, Any]


class WorkflowServicer(WorkflowServiceServicer):
    """See protos/stepwire/api/executor/v1/workflow_service.proto."""

    def __init__(self, workflows: Workflows, graphs: GraphCache, *, limits: GraphLimits) -> None:
        self._workflows = workflows
        self._graphs = graphs
        self._limits = limits

    async def RegisterWorkflow(
        self, request: pb.RegisterWorkflowRequest, context: Context
    ) -> pb.RegisterWorkflowResponse:
        key = codec.key_of(current_call().tenant_id, request.name, request.version, newest=True)
        graph = self._graphs.compile(request.graph, limits=self._limits, field="graph")
        registered = await self._workflows.register(
            key, codec.draft_of(request, graph), graph, validate_only=request.validate_only
        )
        response = pb.RegisterWorkflowResponse()
        codec.write_version(registered, response.workflow)
        return response

    async def GetWorkflow(
        self, request: pb.GetWorkflowRequest, context: Context
    ) -> pb.GetWorkflowResponse:
        key = codec.key_of(current_call().tenant_id, request.name, request.version, newest=True)
        version, graph = await self._workflows.get(key)
        response = pb.GetWorkflowResponse()
        codec.write_version(version, response.workflow, graph=graph)
        return response

    async def ListWorkflows(
        self, request: pb.ListWorkflowsRequest, context: Context
    ) -> pb.ListWorkflowsResponse:
        size = page_size_of(request.page_size)
        tenant_id = current_call().tenant_id
        found = await self._workflows.list(
            tenant_id, after=codec.name_start(request.page_token, tenant_id), limit=size + 1
        )
        response = pb.ListWorkflowsResponse()
        for version in found[:size]:
            codec.write_version(version, response.workflows.add())
        if len(found) > size:
            response.next_page_token = codec.name_token(found[size - 1])
        return response

    async def ListWorkflowVersions(
        self, request: pb.ListWorkflowVersionsRequest, context: Context
    ) -> pb.ListWorkflowVersionsResponse:
        size = page_size_of(request.page_size)
        tenant_id = current_call().tenant_id
        name = check_name(request.name)
        found = await self._workflows.versions(
            tenant_id,
            name,
            before=codec.place_start(request.page_token, tenant_id, name),
            limit=size + 1,
        )
        response = pb.ListWorkflowVersionsResponse()
        for version in found[:size]:
            codec.write_version(version, response.versions.add())
        if len(found) > size:
            response.next_page_token = codec.place_token(found[size - 1])
        return response

    async def SetWorkflowVersionState(
        self, request: pb.SetWorkflowVersionStateRequest, context: Context
    ) -> pb.SetWorkflowVersionStateResponse:
        key = codec.key_of(current_call().tenant_id, request.name, request.version)
        changed = await self._workflows.set_state(key, codec.state_of(request.state))
        response = pb.SetWorkflowVersionStateResponse()
        codec.write_version(changed, response.workflow)
        return response

    async def DeleteWorkflowVersion(
        self, request: pb.DeleteWorkflowVersionRequest, context: Context
    ) -> pb.DeleteWorkflowVersionResponse:
        await self._workflows.delete(
            codec.key_of(current_call().tenant_id, request.name, request.version)
        )
        return pb.DeleteWorkflowVersionResponse()

    async def ValidateGraph(
        self, request: pb.ValidateGraphRequest, context: Context
    ) -> pb.ValidateGraphResponse:
        # A large graph with many faults takes seconds to go through, so not on the loop.
        problems = await asyncio.to_thread(problems_of, request.graph, limits=self._limits)
        response = pb.ValidateGraphResponse()
        for problem in problems:
            codec.write_problem(problem, response.problems.add())
        if not problems:
            graph = self._graphs.compile(request.graph, limits=self._limits, field="graph")
            codec.write_shape(graph, response.shape)
        return response
