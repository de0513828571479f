"""The calls of subscriptions: decode, one call into the domain, encode."""

from typing import Any

import grpc.aio

from executor_svc.subscriptions import codec
from executor_svc.subscriptions.registry import Subscriptions
from executor_svc.subscriptions.rules import check_name
from executor_svc.tasks.fields import check_request_id, page_size_of
from stepwire.api.executor.v1 import subscription_service_pb2 as pb
from stepwire.api.executor.v1.subscription_service_pb2_grpc import SubscriptionServiceServicer
from stepwire.call import current_call

Context = grpc.aio.ServicerContext[Any, Any]


class SubscriptionServicer(SubscriptionServiceServicer):
    """See protos/stepwire/api/executor/v1/subscription_service.proto."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    async def CreateSubscription(
        self, request: pb.CreateSubscriptionRequest, context: Context
    ) -> pb.CreateSubscriptionResponse:
        created = await self._subscriptions.create(
            codec.read_new(request.subscription, tenant_id=current_call().tenant_id),
            codec.request_key(request),
        )
        response = pb.CreateSubscriptionResponse(secret=created.secret)
        codec.write_subscription(created.subscription, response.subscription)
        return response

    async def GetSubscription(
        self, request: pb.GetSubscriptionRequest, context: Context
    ) -> pb.GetSubscriptionResponse:
        found = await self._subscriptions.get(current_call().tenant_id, check_name(request.name))
        response = pb.GetSubscriptionResponse()
        codec.write_subscription(found, response.subscription)
        return response

    async def ListSubscriptions(
        self, request: pb.ListSubscriptionsRequest, context: Context
    ) -> pb.ListSubscriptionsResponse:
        size = page_size_of(request.page_size)
        tenant_id = current_call().tenant_id
        found = await self._subscriptions.list(
            tenant_id, after=codec.PAGES.read(tenant_id, request.page_token), limit=size + 1
        )
        response = pb.ListSubscriptionsResponse()
        for subscription in found[:size]:
            codec.write_subscription(subscription, response.subscriptions.add())
        if len(found) > size:
            response.next_page_token = codec.PAGES.make(tenant_id, found[size - 1].name)
        return response

    async def UpdateSubscription(
        self, request: pb.UpdateSubscriptionRequest, context: Context
    ) -> pb.UpdateSubscriptionResponse:
        changed = await self._subscriptions.update(
            current_call().tenant_id,
            check_name(request.subscription.name, field="subscription.name"),
            codec.read_change(request),
            codec.request_key(request),
        )
        response = pb.UpdateSubscriptionResponse()
        codec.write_subscription(changed, response.subscription)
        return response

    async def DeleteSubscription(
        self, request: pb.DeleteSubscriptionRequest, context: Context
    ) -> pb.DeleteSubscriptionResponse:
        await self._subscriptions.delete(
            current_call().tenant_id, check_name(request.name), codec.request_key(request)
        )
        return pb.DeleteSubscriptionResponse()

    async def RotateSubscriptionSecret(
        self, request: pb.RotateSubscriptionSecretRequest, context: Context
    ) -> pb.RotateSubscriptionSecretResponse:
        rotated = await self._subscriptions.rotate(
            current_call().tenant_id,
            check_name(request.name),
            key=codec.new_key(request.secret, field="secret"),
            overlap=codec.read_overlap(request),
            request=codec.request_key(request),
        )
        response = pb.RotateSubscriptionSecretResponse(secret=rotated.secret)
        codec.write_subscription(rotated.subscription, response.subscription)
        return response

    async def TestSubscription(
        self, request: pb.TestSubscriptionRequest, context: Context
    ) -> pb.TestSubscriptionResponse:
        task_id = await self._subscriptions.ping(
            current_call().tenant_id,
            check_name(request.name),
            request_id=check_request_id(request.request_id),
        )
        return pb.TestSubscriptionResponse(task_id=str(task_id))
