"""BudgetService over gRPC: decode, one call of the domain, encode."""

import grpc.aio

from router_svc.budgets import codec
from router_svc.budgets.registry import BudgetRegistry
from stepwire.api.router.v1 import budget_service_pb2 as pb
from stepwire.api.router.v1.budget_service_pb2_grpc import BudgetServiceServicer
from stepwire.call import current_call

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["BudgetService"].full_name

_Context = grpc.aio.ServicerContext[object, object]


class BudgetServicer(BudgetServiceServicer):
    """Errors are raised as `StepwireError`; the server's interceptors answer with them."""

    def __init__(self, budgets: BudgetRegistry) -> None:
        self._budgets = budgets

    async def CreateBudget(
        self, request: pb.CreateBudgetRequest, context: _Context
    ) -> pb.CreateBudgetResponse:
        tenant_id = current_call().tenant_id
        config = codec.config_of(request.config)
        await self._budgets.create(tenant_id, request.name, config)
        response = pb.CreateBudgetResponse()
        codec.write_budget(*await self._budgets.get(tenant_id, request.name), response.budget)
        return response

    async def GetBudget(
        self, request: pb.GetBudgetRequest, context: _Context
    ) -> pb.GetBudgetResponse:
        found = await self._budgets.get(current_call().tenant_id, request.name)
        response = pb.GetBudgetResponse()
        codec.write_budget(*found, response.budget)
        return response

    async def ListBudgets(
        self, request: pb.ListBudgetsRequest, context: _Context
    ) -> pb.ListBudgetsResponse:
        tenant_id = current_call().tenant_id
        size = codec.page_size_of(request.page_size)
        after = codec.BUDGET_PAGES.read(tenant_id, request.page_token)
        found = await self._budgets.list(tenant_id, after=after, limit=size + 1)
        response = pb.ListBudgetsResponse()
        for budget in found[:size]:
            codec.write_budget(budget, None, response.budgets.add())
        if len(found) > size:
            response.next_page_token = codec.BUDGET_PAGES.make(tenant_id, found[size - 1].name)
        return response

    async def UpdateBudget(
        self, request: pb.UpdateBudgetRequest, context: _Context
    ) -> pb.UpdateBudgetResponse:
        tenant_id = current_call().tenant_id
        revise = codec.revision_of(request)
        await self._budgets.update(tenant_id, request.name, revise, etag=request.etag)
        response = pb.UpdateBudgetResponse()
        codec.write_budget(*await self._budgets.get(tenant_id, request.name), response.budget)
        return response

    async def DeleteBudget(
        self, request: pb.DeleteBudgetRequest, context: _Context
    ) -> pb.DeleteBudgetResponse:
        await self._budgets.delete(current_call().tenant_id, request.name, etag=request.etag)
        return pb.DeleteBudgetResponse()

    async def ListBudgetAccounts(
        self, request: pb.ListBudgetAccountsRequest, context: _Context
    ) -> pb.ListBudgetAccountsResponse:
        tenant_id = current_call().tenant_id
        size = codec.page_size_of(request.page_size)
        found = await self._budgets.accounts(
            tenant_id,
            request.name,
            key=request.key,
            after=codec.account_of_token(tenant_id, request.page_token),
            limit=size + 1,
        )
        response = pb.ListBudgetAccountsResponse()
        for account in found[:size]:
            codec.write_account(account, response.accounts.add())
        if len(found) > size:
            response.next_page_token = codec.account_token(tenant_id, found[size - 1])
        return response
