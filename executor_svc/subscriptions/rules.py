"""Which subscriptions there may be. Pure."""

import hashlib
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from google.protobuf.message import Message

from executor_svc.subscriptions.events import DEFAULT_EVENTS, STATES
from executor_svc.tasks.fields import OWN_LABELS
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.sdk.webhooks import decode_secret

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
MAX_URL_CHARACTERS: Final = 2000
MAX_WORKFLOW_CHARACTERS: Final = 128
MAX_HANDLER_LABELS: Final = 14
DEFAULT_OVERLAP: Final = timedelta(hours=24)
MAX_OVERLAP: Final = timedelta(days=7)

_NOT_IN_A_TEMPLATE = ("input", "request_id", "start_after", "validate_only")


def check_name(name: str, *, field: str = "name") -> str:
    """Return a subscription's name that keeps the rules.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`; so do the others here.
    """
    if not NAME.fullmatch(name):
        raise field_invalid(
            field,
            f"{name[:80]!r} must be a lower-case letter followed by at most 62 lower-case"
            " letters, digits, underscores or hyphens",
        )
    return name


def check_events(events: Iterable[int], *, field: str) -> tuple[int, ...]:
    """Return the events that a subscription wants, sorted and each once."""
    wanted = sorted(set(events)) or list(DEFAULT_EVENTS)
    for event in wanted:
        if event not in STATES:
            known = ", ".join(TaskEventType.Name(each) for each in STATES)  # type: ignore[arg-type]
            raise field_invalid(field, f"{event} must be one of {known}")
    return tuple(wanted)


def check_workflow(name: str, *, field: str) -> str:
    """Return the name of a workflow, which need not exist."""
    if len(name) > MAX_WORKFLOW_CHARACTERS or "\0" in name:
        raise field_invalid(field, f"must have at most {MAX_WORKFLOW_CHARACTERS} characters")
    return name


def check_url(url: str, *, field: str) -> str:
    """Return a URL to which a webhook can be sent; whether it may be is the worker's affair."""
    if not url.startswith(("http://", "https://")):
        raise field_invalid(field, "must begin with http:// or https://")
    if len(url) > MAX_URL_CHARACTERS or not (url.isascii() and url.isprintable()) or " " in url:
        raise field_invalid(
            field, f"must have at most {MAX_URL_CHARACTERS} characters, all of them visible ASCII"
        )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise field_invalid(field, f"is not a URL: {error}") from None
    if not host:
        raise field_invalid(field, "names no host")
    if parts.username is not None or parts.password is not None:
        # They would be seen by everybody who may read the subscription.
        raise field_invalid(field, "must not hold a user's name or password")
    return url


def check_secret(secret: str, *, field: str) -> bytes:
    """Return the key of a secret that was given."""
    try:
        return decode_secret(secret)
    except ValueError as error:
        raise field_invalid(field, str(error)) from None


def check_template(request: CreateTaskRequest, *, field: str) -> None:
    """Check what a handler's task leaves to the server; its graph is another's affair."""
    for name in _NOT_IN_A_TEMPLATE:
        if _is_set(request, name):
            raise field_invalid(f"{field}.{name}", "must be unset: the server sets it")
    if len(request.labels) > MAX_HANDLER_LABELS:
        raise field_invalid(
            f"{field}.labels", f"{len(request.labels)} labels are more than {MAX_HANDLER_LABELS}"
        )
    for label in request.labels:
        if label.startswith(OWN_LABELS):
            raise field_invalid(
                f"{field}.labels[{label[:40]!r}]", f"{OWN_LABELS}… are set by the server"
            )


def check_overlap(overlap: timedelta | None, *, field: str = "overlap") -> timedelta:
    """Return for how long an old secret stays valid; None is the default."""
    if overlap is None:
        return DEFAULT_OVERLAP
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise field_invalid(field, f"must be from 0 to {MAX_OVERLAP.days} days")
    return overlap


def digest_of(request: Message) -> bytes:
    """Return the hash by which a repeated request is known to ask for the same."""
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + request.SerializeToString(deterministic=True)).digest()


def not_found(subscription: str) -> StepwireError:
    """Return the error for a subscription that is not there."""
    return StepwireError(
        Reason.SUBSCRIPTION_NOT_FOUND,
        f"there is no subscription {subscription}",
        metadata={"subscription": subscription},
    )


def exists(name: str) -> StepwireError:
    """Return the error for a name that is taken."""
    return StepwireError(
        Reason.SUBSCRIPTION_EXISTS,
        f"there is a subscription {name} already",
        metadata={"subscription": name},
    )


def reused(request_id: str, subscription: str) -> StepwireError:
    """Return the error for a request_id that has asked for something else before."""
    return StepwireError(
        Reason.REQUEST_ID_REUSED,
        f"request_id {request_id!r} was used for another request",
        metadata={"request_id": request_id, "subscription": subscription},
    )


def _is_set(request: CreateTaskRequest, name: str) -> bool:
    return any(field.name == name for field, _ in request.ListFields())
