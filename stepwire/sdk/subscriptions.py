"""Subscriptions to the events of tasks, for programs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypedDict, Unpack

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from stepwire.api.executor.v1 import subscription_service_pb2 as pb
from stepwire.api.executor.v1.subscription_service_pb2_grpc import (
    SubscriptionServiceAsyncStub,
    SubscriptionServiceStub,
)
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.requests import NewTask, new_request_id


class Wanted(TypedDict, total=False):
    """Which events a subscription wants.

    Attributes:
        events: Of these types; empty means the final ones.
        labels: Only of tasks that have all of these.
        workflow: Only of tasks that run it; empty means any.
        include_output: Whether events carry the output of a task that succeeded.
    """

    events: Sequence["TaskEventType.ValueType"]
    labels: Mapping[str, str]
    workflow: str
    include_output: bool


@dataclass(frozen=True, slots=True)
class Revealed:
    """A subscription, and the secret that its webhook was just given; empty for a handler."""

    subscription: pb.Subscription
    secret: str


class Subscriptions:
    """Says where the events of tasks go. Every method raises `StepwireError`.

    Args:
        channel: To the gateway; the caller closes it.
        target: What `channel` leads to, for error messages.
        timeout: Longest time for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, *, target: str, timeout: timedelta) -> None:
        self._stub: SubscriptionServiceAsyncStub = SubscriptionServiceStub(channel)
        self._target = target
        self._timeout_seconds = timeout.total_seconds()

    async def create_webhook(
        self, name: str, url: str, *, secret: str = "", **wanted: Unpack[Wanted]
    ) -> Revealed:
        """Has events sent to an HTTP server; returns its secret, which is shown only here.

        Args:
            name: Of the subscription.
            url: Where events are sent.
            secret: For the signatures; empty has one made.
            **wanted: See `Wanted`.
        """
        webhook = pb.Webhook(url=url, secret=secret)
        return await self._create(pb.Subscription(name=name, webhook=webhook, **wanted))

    async def create_handler(
        self, name: str, task: NewTask, **wanted: Unpack[Wanted]
    ) -> pb.Subscription:
        """Has a task started for each event, with the event as its input.

        Args:
            name: Of the subscription.
            task: What to start; its own `input` and `request_id` are left out.
            **wanted: See `Wanted`.
        """
        request = task.request()
        request.ClearField("input")
        request.ClearField("request_id")
        handler = pb.Handler(task=request)
        created = await self._create(pb.Subscription(name=name, handler=handler, **wanted))
        return created.subscription

    async def get(self, name: str) -> pb.Subscription:
        """Reads a subscription."""
        with raising_ours(self._target):
            response = await self._stub.GetSubscription(
                pb.GetSubscriptionRequest(name=name), timeout=self._timeout_seconds
            )
        return response.subscription

    async def find(self, *, page_size: int = 100) -> AsyncIterator[pb.Subscription]:
        """Yields all subscriptions by name, fetching `page_size` at a time."""
        request = pb.ListSubscriptionsRequest(page_size=page_size)
        while True:
            with raising_ours(self._target):
                response = await self._stub.ListSubscriptions(
                    request, timeout=self._timeout_seconds
                )
            for subscription in response.subscriptions:
                yield subscription
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    async def update(self, subscription: pb.Subscription, *fields: str) -> pb.Subscription:
        """Gives the named fields of a subscription the values that `subscription` has."""
        request = pb.UpdateSubscriptionRequest(
            subscription=subscription,
            update_mask=FieldMask(paths=fields),
            request_id=new_request_id(),
        )
        with raising_ours(self._target):
            response = await self._stub.UpdateSubscription(request, timeout=self._timeout_seconds)
        return response.subscription

    async def pause(self, name: str) -> pb.Subscription:
        """Lets events pass by."""
        return await self.update(pb.Subscription(name=name, paused=True), "paused")

    async def resume(self, name: str) -> pb.Subscription:
        """Has events delivered again."""
        return await self.update(pb.Subscription(name=name), "paused")

    async def delete(self, name: str) -> None:
        """Deletes a subscription."""
        request = pb.DeleteSubscriptionRequest(name=name, request_id=new_request_id())
        with raising_ours(self._target):
            await self._stub.DeleteSubscription(request, timeout=self._timeout_seconds)

    async def rotate(
        self, name: str, *, secret: str = "", overlap: timedelta | None = None
    ) -> Revealed:
        """Gives a webhook a new secret; returns it.

        Args:
            name: Of the subscription.
            secret: The new one; empty has one made.
            overlap: For how long the old one signs as well; None means a day.
        """
        request = pb.RotateSubscriptionSecretRequest(
            name=name, secret=secret, request_id=new_request_id()
        )
        if overlap is not None:
            request.overlap.FromTimedelta(overlap)
        with raising_ours(self._target):
            response = await self._stub.RotateSubscriptionSecret(
                request, timeout=self._timeout_seconds
            )
        return Revealed(response.subscription, response.secret)

    async def test(self, name: str) -> str:
        """Sends a ping; returns the id of the task that delivers it."""
        request = pb.TestSubscriptionRequest(name=name, request_id=new_request_id())
        with raising_ours(self._target):
            response = await self._stub.TestSubscription(request, timeout=self._timeout_seconds)
        return response.task_id

    async def _create(self, subscription: pb.Subscription) -> Revealed:
        request = pb.CreateSubscriptionRequest(
            subscription=subscription, request_id=new_request_id()
        )
        with raising_ours(self._target):
            response = await self._stub.CreateSubscription(request, timeout=self._timeout_seconds)
        return Revealed(response.subscription, response.secret)
