"""Says which requests are equal. Pure.

All fields of a request count, those too that are added to it later, but for what is named
here: an answer must never reach a request that would have got another one.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final

import orjson

from router_svc.cache.records import Ask
from router_svc.catalogue.holder import Snapshot
from router_svc.catalogue.models import Model
from router_svc.requests.records import Message, Request, Role

FORM: Final = 1
"""Of the keys; a new one makes all answers kept before unknown."""
MAX_QUESTION_CHARACTERS: Final = 1_000
"""Of a last message that another one may stand for: MiniLM reads 256 tokens, and texts that
differ only beyond would mean the same to it."""
# For whom it is asked, and whether from the cache: `scope` is taken from it.
_LEFT_OUT = frozenset({"attribution", "cache"})
_COUNTED = tuple(each.name for each in fields(Request) if each.name not in _LEFT_OUT)


def ask_of(
    request: Request, *, tenant_id: str, snapshot: Snapshot, ttl_seconds: float
) -> Ask | None:
    """Returns what `request` asks of the cache; None when it names an unknown model.

    Args:
        request: The request.
        tenant_id: Whose.
        snapshot: The catalogue in use.
        ttl_seconds: For how long answers are kept.
    """
    answerer = _answerer(request, snapshot)
    if answerer is None:
        return None
    last = request.messages[-1]
    asked = {name: getattr(request, name) for name in _COUNTED}
    asked["messages"] = (*request.messages[:-1], replace(last, content=""))
    scope = [FORM, tenant_id, request.cache.scope, answerer]
    partition = _digest(orjson.dumps([scope, asked], default=_plain, option=orjson.OPT_SORT_KEYS))
    return Ask(
        key=_digest(partition + last.content.encode()),
        partition=partition,
        tenant_id=tenant_id,
        question=last.content if _may_vary(last) else "",
        max_age_seconds=min(request.cache.max_age_seconds or ttl_seconds, ttl_seconds),
    )


def _answerer(request: Request, snapshot: Snapshot) -> Any:
    """Returns what decides who answers: a named model's own entry, or the whole catalogue."""
    if not request.model:
        return snapshot.version
    model = snapshot.catalogue.find(request.model)
    return None if model is None else _identity(model)


def _identity(model: Model) -> Any:
    """Returns what makes a model answer as it does; prices and limits do not."""
    return [model.name, model.provider.model_dump(mode="json"), model.max_output_tokens]


def _may_vary(message: Message) -> bool:
    return (
        message.role is Role.USER
        and not message.images
        and len(message.content) <= MAX_QUESTION_CHARACTERS
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _digest(value).hex()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
