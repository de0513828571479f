"""Wiring of the workflows."""

from functools import partial

import asyncpg

from executor_svc.graphs.cache import GraphCache
from executor_svc.graphs.compile import GraphLimits
from executor_svc.workflows.registry import Workflows
from executor_svc.workflows.resolver import Resolver
from executor_svc.workflows.servicer import WorkflowServicer
from executor_svc.workflows.store import PostgresWorkflowStore
from stepwire import rpc
from stepwire.api.executor.v1.workflow_service_pb2 import DESCRIPTOR
from stepwire.api.executor.v1.workflow_service_pb2_grpc import (
    add_WorkflowServiceServicer_to_server,
)

SERVICE = DESCRIPTOR.services_by_name["WorkflowService"].full_name


def wire(
    pool: asyncpg.Pool, graphs: GraphCache, *, limits: GraphLimits
) -> tuple[Resolver, rpc.Service]:
    """Return what gives tasks their workflows' graphs, and the service that keeps them."""
    store = PostgresWorkflowStore(pool)
    resolver = Resolver(store, graphs)
    servicer = WorkflowServicer(Workflows(store, resolver), graphs, limits=limits)
    add = partial(add_WorkflowServiceServicer_to_server, servicer)
    return resolver, rpc.Service(name=SERVICE, add=add)
