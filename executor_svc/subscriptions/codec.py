"""Between the messages of subscriptions and their records."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from executor_svc.graphs.durations import span_of
from executor_svc.subscriptions import rules
from executor_svc.subscriptions.ports import Change
from executor_svc.subscriptions.records import Handler, RequestKey, Subscription, Webhook
from executor_svc.tasks.fields import check_labels, check_request_id
from stepwire.api.executor.v1 import subscription_service_pb2 as pb
from stepwire.errors import field_invalid
from stepwire.ids import uuid7
from stepwire.page_tokens import PageTokens
from stepwire.sdk.webhooks import decode_secret, new_secret

PAGES: Final = PageTokens("ListSubscriptions")
FIELD: Final = "subscription"


def request_key(request: Any) -> RequestKey | None:
    """Return what makes a request the same as an earlier one; None if it has no id."""
    request_id = check_request_id(request.request_id)
    return RequestKey(request_id, rules.digest_of(request)) if request_id else None


def new_key(secret: str, *, field: str) -> bytes:
    """Return the key of a secret that was given, or of a new one."""
    return rules.check_secret(secret, field=field) if secret else decode_secret(new_secret())


def read_new(message: pb.Subscription, *, tenant_id: str) -> Subscription:
    """Read a subscription that is to be created.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    now = datetime.now(UTC)
    target: Webhook | Handler
    match message.WhichOneof("target"):
        case "webhook":
            url = rules.check_url(message.webhook.url, field=f"{FIELD}.webhook.url")
            key = new_key(message.webhook.secret, field=f"{FIELD}.webhook.secret")
            target = Webhook(url, key, now)
        case "handler":
            target = _handler(message)
        case _:
            raise field_invalid(f"{FIELD}.webhook", "or handler must be set")
    return Subscription(
        subscription_id=uuid7(),
        tenant_id=tenant_id,
        name=rules.check_name(message.name, field=f"{FIELD}.name"),
        events=rules.check_events(message.events, field=f"{FIELD}.events"),
        labels=check_labels(message.labels, field=f"{FIELD}.labels", may_be_own=True),
        workflow=rules.check_workflow(message.workflow, field=f"{FIELD}.workflow"),
        target=target,
        include_output=message.include_output,
        paused=message.paused,
        paused_because="",
        created_at=now,
        updated_at=now,
    )


def read_change(request: pb.UpdateSubscriptionRequest) -> Change:
    """Read which fields of a subscription are to change, and into what.

    Raises:
        StepwireError: FIELD_INVALID, naming the field; so may the change itself.
    """
    paths = request.update_mask.paths
    if not paths:
        raise field_invalid("update_mask", "must name the fields to change")
    for path in paths:
        if path not in _CHANGES:
            known = ", ".join(_CHANGES)
            raise field_invalid("update_mask", f"{path[:80]!r} must be one of {known}")
    changes = [_CHANGES[path](request.subscription) for path in paths]

    def change(subscription: Subscription) -> Subscription:
        for each in changes:
            subscription = each(subscription)
        return subscription

    return change


def read_overlap(request: pb.RotateSubscriptionSecretRequest) -> timedelta:
    """Read for how long an old secret stays valid."""
    given = span_of(request.overlap, field="overlap") if request.HasField("overlap") else None
    return rules.check_overlap(given)


def write_subscription(subscription: Subscription, message: pb.Subscription) -> None:
    """Write a subscription, without its secrets."""
    message.name = subscription.name
    message.subscription_id = str(subscription.subscription_id)
    message.events.extend(subscription.events)  # type: ignore[arg-type]
    message.labels.update(subscription.labels)
    message.workflow = subscription.workflow
    match subscription.target:
        case Webhook() as webhook:
            message.webhook.url = webhook.url
            if webhook.previous_until is not None and webhook.previous_until > datetime.now(UTC):
                message.webhook.previous_secret_end_time.FromDatetime(webhook.previous_until)
        case Handler() as handler:
            message.handler.task.ParseFromString(handler.request)
    message.include_output = subscription.include_output
    message.paused = subscription.paused
    message.paused_because = subscription.paused_because
    message.create_time.FromDatetime(subscription.created_at)
    message.update_time.FromDatetime(subscription.updated_at)


def _handler(message: pb.Subscription) -> Handler:
    task = message.handler.task
    rules.check_template(task, field=f"{FIELD}.handler.task")
    return Handler(task.SerializeToString(deterministic=True))


def _events(message: pb.Subscription) -> Change:
    events = rules.check_events(message.events, field=f"{FIELD}.events")
    return lambda subscription: replace(subscription, events=events)


def _labels(message: pb.Subscription) -> Change:
    labels = check_labels(message.labels, field=f"{FIELD}.labels", may_be_own=True)
    return lambda subscription: replace(subscription, labels=labels)


def _workflow(message: pb.Subscription) -> Change:
    workflow = rules.check_workflow(message.workflow, field=f"{FIELD}.workflow")
    return lambda subscription: replace(subscription, workflow=workflow)


def _url(message: pb.Subscription) -> Change:
    url = rules.check_url(message.webhook.url, field=f"{FIELD}.webhook.url")

    def change(subscription: Subscription) -> Subscription:
        if not isinstance(subscription.target, Webhook):
            raise field_invalid("update_mask", "webhook.url: the subscription has a handler")
        return replace(subscription, target=replace(subscription.target, url=url))

    return change


def _task(message: pb.Subscription) -> Change:
    handler = _handler(message)

    def change(subscription: Subscription) -> Subscription:
        if not isinstance(subscription.target, Handler):
            raise field_invalid("update_mask", "handler.task: the subscription has a webhook")
        return replace(subscription, target=handler)

    return change


def _include_output(message: pb.Subscription) -> Change:
    return lambda subscription: replace(subscription, include_output=message.include_output)


def _paused(message: pb.Subscription) -> Change:
    def change(subscription: Subscription) -> Subscription:
        # Why the server has paused it holds only as long as nobody else has a say.
        because = subscription.paused_because if message.paused else ""
        return replace(subscription, paused=message.paused, paused_because=because)

    return change


_CHANGES: Mapping[str, Callable[[pb.Subscription], Change]] = {
    "events": _events,
    "labels": _labels,
    "workflow": _workflow,
    "webhook.url": _url,
    "handler.task": _task,
    "include_output": _include_output,
    "paused": _paused,
}
