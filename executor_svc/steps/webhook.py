"""Steps that deliver an event to a subscription's webhook.

The graph names the subscription only: where it leads and how it signs is read for every
attempt, so that secrets stand nowhere else, and an attempt in an hour uses what holds then.
"""

from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import UUID

import httpx2
import orjson

from executor_svc.steps.http import retry_after
from executor_svc.steps.kind import StepCall, StepError
from executor_svc.subscriptions.events import PING
from executor_svc.subscriptions.records import Subscription, Webhook
from stepwire.errors import Reason
from stepwire.sdk.webhooks import signed_headers

# Of an answer that refuses the event, for the failure's message.
SHOWN_BYTES: Final = 500
HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "stepwire-webhooks",
    # What is shown of an answer is read as it is, so that none can swell on the way.
    "Accept-Encoding": "identity",
}


class Targets(Protocol):
    """The part of `SubscriptionStore` that a worker needs."""

    async def get(self, tenant_id: str, subscription_id: UUID) -> Subscription | None:
        """Return a subscription by its id."""

    async def pause(self, subscription: Subscription, because: str) -> bool:
        """Pause a subscription if it is still as it was read; tell whether it is paused."""


class WebhookKind:
    """See `WebhookStep` in graph.proto, and `Webhook` in subscription_service.proto."""

    def __init__(self, client: httpx2.AsyncClient, targets: Targets) -> None:
        self._client = client
        self._targets = targets

    async def run(self, call: StepCall) -> Any:
        subscription, webhook = await self._target(call)
        status, headers, text = await self._post(call, webhook)
        if httpx2.codes.OK <= status < httpx2.codes.MULTIPLE_CHOICES:
            return {"status": status}
        # What has been changed meanwhile may lead elsewhere by now.
        retryable = status != httpx2.codes.GONE or not await self._targets.pause(
            subscription, "the receiver answered 410 Gone"
        )
        raise StepError(
            f"HTTP {status}: {text}",
            retryable=retryable,
            retry_after=retry_after(headers.get("retry-after")) if retryable else None,
            metadata={"http_status": str(status)},
        )

    async def _target(self, call: StepCall) -> tuple[Subscription, Webhook]:
        name = call.spec.subscription_id
        subscription = await self._targets.get(call.context.tenant_id, _id_of(name))
        if subscription is None:
            raise StepError(
                f"there is no subscription {name} any more",
                reason=Reason.SUBSCRIPTION_NOT_FOUND,
                metadata={"subscription": name},
            )
        if not isinstance(subscription.target, Webhook):
            raise StepError(f"subscription {subscription.name} has no webhook")
        if subscription.paused and not _is_ping(call.value):
            raise StepError(
                f"subscription {subscription.name} is paused",
                reason=Reason.SUBSCRIPTION_PAUSED,
                metadata={"subscription": subscription.name},
            )
        return subscription, subscription.target

    async def _post(self, call: StepCall, webhook: Webhook) -> tuple[int, httpx2.Headers, str]:
        """Make the call; return status, headers, and the beginning of what refuses it."""
        body = orjson.dumps(call.value)
        keys = webhook.keys(datetime.now(UTC))
        headers = {
            **HEADERS,
            **signed_headers(keys, webhook_id=call.context.task_id, body=body),
        }
        try:
            async with self._client.stream(
                "POST", webhook.url, headers=headers, content=body
            ) as response:
                text = "" if response.is_success else await _beginning(response)
        except httpx2.InvalidURL as error:
            raise StepError(f"the URL is not valid: {error}") from None
        except httpx2.HTTPError as error:
            raise StepError(
                f"{type(error).__name__}: {error}",
                retryable=True,
                metadata={"exception": type(error).__name__},
            ) from error
        return response.status_code, response.headers, text


def _id_of(name: str) -> UUID:
    try:
        return UUID(name)
    except ValueError:
        raise StepError(
            f"subscription_id: {name[:80]!r} is not a UUID",
            reason=Reason.FIELD_INVALID,
            metadata={"field": "subscription_id"},
        ) from None


def _is_ping(event: Any) -> bool:
    return isinstance(event, dict) and event.get("type") == PING


async def _beginning(response: httpx2.Response) -> str:
    beginning = b""
    async for part in response.aiter_raw():
        beginning += part[: SHOWN_BYTES - len(beginning)]
        if len(beginning) == SHOWN_BYTES:
            break
    return beginning.decode("utf-8", "replace")
