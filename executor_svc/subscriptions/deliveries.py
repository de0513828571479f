"""From an event to the tasks that deliver it.

A delivery is a task: one `webhook` step, or the handler's own. Its request_id is made from
the subscription and the event, so that a notice that is carried out twice makes it once.
"""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from executor_svc.metrics import SubscriptionMetrics
from executor_svc.subscriptions.events import type_of, wants, write_event, write_ping
from executor_svc.subscriptions.ports import Outputs, Starter, SubscriptionStore
from executor_svc.subscriptions.records import (
    SUBSCRIPTION_LABEL,
    TASK_LABEL,
    Handler,
    Occurrence,
    Subscription,
)
from executor_svc.waking.relay import Notice
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.api.executor.v1.graph_pb2 import Graph, Step
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.batcher import Batcher
from stepwire.errors import Reason, StepwireError
from stepwire.ids import uuid7
from stepwire.payload import JSON

logger = logging.getLogger(__name__)

STEP: Final = "deliver"
ATTEMPTS: Final = 12
FIRST_BACKOFF: Final = timedelta(seconds=5)
LONGEST_BACKOFF: Final = timedelta(hours=6)
MULTIPLIER: Final = 3
JITTER: Final = 0.2
TIMEOUT: Final = timedelta(seconds=20)

MAX_DEPTH: Final = 8
"""Most tasks above a handler's: its cause, the cause of that, and so on."""

# Refusals that the same request may not meet later; others pause the subscription.
_PASSING = frozenset(
    {
        Reason.OVERLOADED,
        Reason.DEPENDENCY_UNAVAILABLE,
        Reason.GRAPH_TOO_NEW,
        Reason.DEADLINE_EXCEEDED,
        Reason.INTERNAL,
    }
)


class Deliveries:
    """Starts the tasks that deliver events.

    `limit_bytes` is the largest input of a task; `at_once` bounds the calls of one webhook.
    """

    def __init__(
        self,
        store: SubscriptionStore,
        starter: Starter,
        outputs: Outputs,
        metrics: SubscriptionMetrics,
        *,
        limit_bytes: int,
        at_once: int,
    ) -> None:
        self._store = store
        self._at_once = at_once
        self._starter = starter
        self._outputs = outputs
        self._metrics = metrics
        self._limit_bytes = limit_bytes
        # The notices of a batch are carried out at once, and share these looks.
        self._subscriptions: Batcher[str, Sequence[Subscription]] = Batcher(
            "subscriptions", self._read_subscriptions
        )
        self._occurrences: Batcher[tuple[UUID, int], Occurrence | None] = Batcher(
            "occurrences", store.occurrences
        )

    async def carry_out(self, notice: Notice) -> None:
        """Start the deliveries of the event that a notice tells of.

        `payload` has the event's `cursor`, and as `event` its name (`RETRIED`), or as
        `state` the final state that it brought the task into.

        Raises:
            StepwireError: one of them could not be started now.
        """
        subscriptions = await self._subscriptions.submit(notice.tenant_id)
        event_type = type_of(notice.payload.get("event") or notice.payload["state"])
        if not any(event_type in each.events for each in subscriptions):
            return
        occurrence = await self._occurrences.submit((notice.task_id, notice.payload["cursor"]))
        if occurrence is None:
            # The task is older than the record keeps them.
            return
        results = await asyncio.gather(
            *(self._deliver(each, occurrence) for each in subscriptions if wants(each, occurrence)),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def ping(self, subscription: Subscription, request_id: str) -> UUID:
        """Start the delivery of a ping, once for a request_id; return its task."""
        key = hashlib.sha256(request_id.encode()).hexdigest() if request_id else str(uuid7())
        event = write_ping(subscription, datetime.now(UTC))
        request = _request(subscription, event, at_once=self._at_once)
        request.request_id = f"subscription/{subscription.subscription_id}/ping/{key}"
        try:
            return await self._starter.start(
                request, tenant_id=subscription.tenant_id, depth=MAX_DEPTH, notify=False
            )
        except StepwireError as error:
            if error.reason is not Reason.REQUEST_ID_REUSED:
                raise
            # The ping was sent before, at another time, which stands in the event.
            return UUID(error.metadata["task_id"])

    async def _deliver(self, subscription: Subscription, occurrence: Occurrence) -> None:
        is_handler = isinstance(subscription.target, Handler)
        depth = occurrence.depth + 1
        if is_handler and depth > MAX_DEPTH:
            logger.warning(
                "a chain of handlers was cut off",
                extra={"subscription": subscription.name, "task_id": str(occurrence.task_id)},
            )
            self._metrics.event("too_deep")
            return
        event = await self._event(subscription, occurrence)
        request = _request(subscription, event, at_once=self._at_once)
        request.labels[TASK_LABEL] = str(occurrence.task_id)
        request.request_id = (
            f"subscription/{subscription.subscription_id}/{occurrence.task_id}/{occurrence.cursor}"
        )
        try:
            await self._starter.start(
                request, tenant_id=subscription.tenant_id, depth=depth, notify=is_handler
            )
        except StepwireError as error:
            if error.reason in _PASSING:
                raise
            if error.reason is not Reason.REQUEST_ID_REUSED:
                await self._refused(subscription, occurrence, error)
                return
            # Started before, by a relay that did not come to say so; the subscription or
            # the task has changed since.
        self._metrics.event("handler" if is_handler else "webhook")

    async def _event(self, subscription: Subscription, occurrence: Occurrence) -> bytes:
        output = None
        if (
            subscription.include_output
            and occurrence.type == TaskEventType.TASK_EVENT_TYPE_TASK_SUCCEEDED
        ):
            blob = await self._outputs.output_of(occurrence.task_id, tenant_id=occurrence.tenant_id)
            output = None if blob is None or blob.content_type != JSON else blob.data
        return write_event(occurrence, output, limit_bytes=self._limit_bytes)

    async def _refused(
        self, subscription: Subscription, occurrence: Occurrence, error: StepwireError
    ) -> None:
        """Pause a subscription whose task is refused, unless that is for this event alone.

        Raises:
            StepwireError: the same; the subscription was changed meanwhile.
        """
        of_event = _is_of_input(error)
        if not of_event and not await self._store.pause(
            subscription, f"its task was refused: {error.reason}: {error}"
        ):
            raise error
        logger.warning(
            "a handler was refused: %s",
            "its event is passed over" if of_event else "its subscription is paused",
            extra={
                "subscription": subscription.name,
                "task_id": str(occurrence.task_id),
                "cause": str(error),
            },
        )
        self._metrics.event("refused")

    async def _read_subscriptions(
        self, tenant_ids: Sequence[str]
    ) -> Sequence[Sequence[Subscription]]:
        found = await self._store.of_tenants(set(tenant_ids))
        return [found.get(tenant_id, ()) for tenant_id in tenant_ids]


def _is_of_input(error: StepwireError) -> bool:
    """Whether a task is refused because of its input: another event's may not be."""
    return error.metadata.get("field", "").partition(".")[0] == "input"


def _request(subscription: Subscription, event: bytes, *, at_once: int) -> CreateTaskRequest:
    """Return the request for a task that delivers an event."""
    target = subscription.target
    if isinstance(target, Handler):
        request = CreateTaskRequest.FromString(target.request)
    else:
        graph = webhook_graph(subscription.subscription_id, at_once=at_once)
        request = CreateTaskRequest(graph=graph)
    request.input.data = event
    request.labels[SUBSCRIPTION_LABEL] = str(subscription.subscription_id)
    return request


def webhook_graph(subscription_id: UUID, *, at_once: int) -> Graph:
    """Return the graph that calls a subscription's webhook, at most `at_once` at a time."""
    step = Step(name=STEP)
    step.webhook.subscription_id = str(subscription_id)
    step.timeout.FromTimedelta(TIMEOUT)
    step.limit.key = f"'{SUBSCRIPTION_LABEL}/{subscription_id}'"
    step.limit.max_running = at_once
    step.retry.max_attempts = ATTEMPTS
    step.retry.initial_backoff.FromTimedelta(FIRST_BACKOFF)
    step.retry.max_backoff.FromTimedelta(LONGEST_BACKOFF)
    step.retry.multiplier = MULTIPLIER
    step.retry.jitter = JITTER
    return Graph(steps=[step])
