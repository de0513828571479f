"""What subscriptions need of the world."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from executor_svc.engine.records import Blob
from executor_svc.subscriptions.records import Occurrence, Repeat, RequestKey, Subscription
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest

Change = Callable[[Subscription], Subscription]


class SubscriptionStore(Protocol):
    """Keeps subscriptions.

    What changes one takes the call's RequestKey, if it has one, and returns a Repeat,
    having done nothing, when the same call was made before.
    """

    async def add(
        self, subscription: Subscription, request: RequestKey | None, *, limit: int
    ) -> Subscription | Repeat:
        """Add a subscription; return it with the record's own times.

        Raises:
            StepwireError: SUBSCRIPTION_EXISTS, FIELD_INVALID when the tenant has `limit` of
                them already, or REQUEST_ID_REUSED.
        """

    async def change(
        self, tenant_id: str, name: str, change: Change, request: RequestKey | None
    ) -> Subscription | Repeat:
        """Have `change` made to a subscription; return what came of it.

        Raises:
            StepwireError: SUBSCRIPTION_NOT_FOUND, REQUEST_ID_REUSED, or what `change` raises.
        """

    async def delete(self, tenant_id: str, name: str, request: RequestKey | None) -> None:
        """Delete a subscription.

        Raises:
            StepwireError: SUBSCRIPTION_NOT_FOUND, or REQUEST_ID_REUSED.
        """

    async def repeated(self, tenant_id: str, request: RequestKey) -> Repeat | None:
        """Return the same call that was made before, if there was one.

        Raises:
            StepwireError: REQUEST_ID_REUSED.
        """

    async def pause(self, subscription: Subscription, because: str) -> bool:
        """Pause a subscription if it is still as it was read; tell whether it is paused."""

    async def find(self, tenant_id: str, name: str) -> Subscription | None:
        """Return a subscription by its name."""

    async def get(self, tenant_id: str, subscription_id: UUID) -> Subscription | None:
        """Return a subscription by its id."""

    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Subscription]:
        """Return a tenant's subscriptions behind a name, by name."""

    async def of_tenants(self, tenant_ids: Collection[str]) -> Mapping[str, Sequence[Subscription]]:
        """Return the subscriptions of tenants."""

    async def tenants(self) -> Collection[str]:
        """Return the tenants that have subscriptions, paused ones included."""

    async def occurrences(self, wanted: Sequence[tuple[UUID, int]]) -> Sequence[Occurrence | None]:
        """Return events of tasks by their cursors; None for one that is no more."""


class Starter(Protocol):
    """Starts tasks as CreateTask does."""

    async def check(
        self,
        request: CreateTaskRequest,
        *,
        tenant_id: str,
        field: str,
        own: bool = False,
        has_input: bool = True,
    ) -> None:
        """Check a request without recording anything.

        Args:
            request: the request.
            tenant_id: whose it is.
            field: path of the request, for errors.
            own: whether it has labels of the server's own.
            has_input: whether it has the task's input, which gives its concurrency key.

        Raises:
            StepwireError: what CreateTask would raise, naming fields below `field`.
        """

    async def start(
        self, request: CreateTaskRequest, *, tenant_id: str, depth: int, notify: bool
    ) -> UUID:
        """Accept a task; a request_id that is known gives the task it has.

        Args:
            request: what to start.
            tenant_id: for whom.
            depth: how many tasks above it are its cause.
            notify: whether its events are for subscriptions as well.

        Raises:
            StepwireError: as CreateTask.
        """


class Outputs(Protocol):
    """Reads what tasks have given."""

    async def output_of(self, task_id: UUID, *, tenant_id: str) -> Blob | None:
        """Return a task's output; None if it has not succeeded."""
