"""Creating, changing and testing subscriptions: the verbs of their owner."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from executor_svc.subscriptions import rules
from executor_svc.subscriptions.deliveries import Deliveries
from executor_svc.subscriptions.interest import Interest
from executor_svc.subscriptions.ports import Change, Starter, SubscriptionStore
from executor_svc.subscriptions.records import (
    SUBSCRIPTION_LABEL,
    TASK_LABEL,
    Handler,
    Repeat,
    RequestKey,
    Subscription,
    Webhook,
)
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.errors import StepwireError, field_invalid
from stepwire.sdk.webhooks import encode_secret

SECRET_SHOWN: Final = timedelta(minutes=10)
"""For how long a repeated call shows the secret that the first has made."""


@dataclass(frozen=True, slots=True)
class Revealed:
    """A subscription with the secret of its webhook; empty where it is not to be shown."""

    subscription: Subscription
    secret: str


class Subscriptions:
    """The subscriptions of all tenants. `limit` is the most that one tenant may have."""

    def __init__(
        self,
        store: SubscriptionStore,
        starter: Starter,
        deliveries: Deliveries,
        interest: Interest,
        *,
        limit: int,
    ) -> None:
        self._store = store
        self._starter = starter
        self._deliveries = deliveries
        self._interest = interest
        self._limit = limit

    async def create(self, new: Subscription, request: RequestKey | None) -> Revealed:
        """Create a subscription.

        Raises:
            StepwireError: SUBSCRIPTION_EXISTS, REQUEST_ID_REUSED, FIELD_INVALID for one too
                many, or what CreateTask says of a handler's task.
        """
        if (repeat := await self._repeated(new.tenant_id, request)) is not None:
            return await self._reveal(new.tenant_id, repeat)
        await self._check(new)
        added = await self._store.add(new, request, limit=self._limit)
        await self._interest.refresh()
        return await self._reveal(new.tenant_id, added)

    async def get(self, tenant_id: str, name: str) -> Subscription:
        """Return a subscription.

        Raises:
            StepwireError: SUBSCRIPTION_NOT_FOUND; so do all that name one.
        """
        found = await self._store.find(tenant_id, name)
        if found is None:
            raise rules.not_found(name)
        return found

    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Subscription]:
        """Return a tenant's subscriptions behind a name, by name."""
        return await self._store.list(tenant_id, after=after, limit=limit)

    async def update(
        self, tenant_id: str, name: str, change: Change, request: RequestKey | None
    ) -> Subscription:
        """Change a subscription.

        Raises:
            StepwireError: REQUEST_ID_REUSED, what `change` raises, or what CreateTask says of
                a handler's new task.
        """
        if (repeat := await self._repeated(tenant_id, request)) is not None:
            return await self._current(tenant_id, repeat)
        await self._check(change(await self.get(tenant_id, name)))
        changed = await self._store.change(tenant_id, name, change, request)
        return await self._current(tenant_id, changed)

    async def delete(self, tenant_id: str, name: str, request: RequestKey | None) -> None:
        """Delete a subscription.

        Raises:
            StepwireError: REQUEST_ID_REUSED.
        """
        await self._store.delete(tenant_id, name, request)

    async def rotate(
        self,
        tenant_id: str,
        name: str,
        *,
        key: bytes,
        overlap: timedelta,
        request: RequestKey | None,
    ) -> Revealed:
        """Give a webhook a new key; the one before signs as well for the time of `overlap`.

        Raises:
            StepwireError: FIELD_INVALID when it has no webhook, or REQUEST_ID_REUSED.
        """
        until = datetime.now(UTC) + overlap

        def change(subscription: Subscription) -> Subscription:
            old = subscription.target
            if not isinstance(old, Webhook):
                raise field_invalid("name", f"{name} has no webhook")
            if old.key == key:
                return subscription
            keeps = overlap > timedelta(0)
            new = replace(
                old,
                key=key,
                previous_key=old.key if keeps else None,
                previous_until=until if keeps else None,
            )
            return replace(subscription, target=new)

        changed = await self._store.change(tenant_id, name, change, request)
        return await self._reveal(tenant_id, changed)

    async def ping(self, tenant_id: str, name: str, *, request_id: str) -> UUID:
        """Start the delivery of a ping; return its task.

        Raises:
            StepwireError: what CreateTask says of a handler's task.
        """
        return await self._deliveries.ping(await self.get(tenant_id, name), request_id)

    async def _repeated(self, tenant_id: str, request: RequestKey | None) -> Repeat | None:
        """Return an earlier call with the same request: what it was, it need not be by now."""
        return None if request is None else await self._store.repeated(tenant_id, request)

    async def _check(self, subscription: Subscription) -> None:
        if not isinstance(subscription.target, Handler):
            return
        template = CreateTaskRequest.FromString(subscription.target.request)
        # With what an event adds, since that counts against the limits as well.
        started = CreateTaskRequest.FromString(subscription.target.request)
        for label in (SUBSCRIPTION_LABEL, TASK_LABEL):
            started.labels[label] = str(subscription.subscription_id)
        for request, own in ((template, False), (started, True)):
            await self._starter.check(
                request,
                tenant_id=subscription.tenant_id,
                field="subscription.handler.task",
                own=own,
                has_input=False,
            )

    async def _current(self, tenant_id: str, done: Subscription | Repeat) -> Subscription:
        if isinstance(done, Subscription):
            return done
        found = await self._store.get(tenant_id, done.subscription_id)
        if found is None:
            raise _deleted(done)
        return found

    async def _reveal(self, tenant_id: str, done: Subscription | Repeat) -> Revealed:
        """Return the secret to those who have just made it, and nobody else."""
        subscription = await self._current(tenant_id, done)
        target = subscription.target
        if not isinstance(target, Webhook):
            return Revealed(subscription, "")
        if isinstance(done, Repeat):
            made_here = done.made_at == target.key_made_at
            if not made_here or datetime.now(UTC) - done.made_at > SECRET_SHOWN:
                return Revealed(subscription, "")
        return Revealed(subscription, encode_secret(target.key))


def _deleted(done: Repeat) -> StepwireError:
    return rules.not_found(str(done.subscription_id))
