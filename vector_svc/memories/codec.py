"""Between the messages of MemoryService and its records."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import orjson
from google.protobuf.duration_pb2 import Duration

from stepwire.api.vector.v1 import memory_pb2, memory_service_pb2
from stepwire.errors import field_invalid
from stepwire.payload import json_to_struct
from vector_svc.collections.rules import MAX_TTL, MIN_TTL
from vector_svc.engine.fields import MAX_IDS
from vector_svc.engine.payloads import read_payload
from vector_svc.filters.codec import filter_of
from vector_svc.filters.records import Node
from vector_svc.memories.records import (
    Memory,
    MemoryDraft,
    MemorySpace,
    Place,
    Question,
    Recalled,
    Scope,
    Weights,
)
from vector_svc.memories.spaces import check_id, check_space
from vector_svc.points.codec import MAX_TEXT_CHARACTERS, time_of
from vector_svc.search.codec import least_score

DEFAULT_COLLECTION: Final = "memories"
MAX_MEMORIES: Final = 1_000
DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 100
MAX_WEIGHT: Final = 1_000.0
DEFAULT_WEIGHT: Final = 0.1
DEFAULT_HALF_LIFE: Final = timedelta(days=7)
LEAST_HALF_LIFE: Final = timedelta(milliseconds=1)

_SCOPES: Final[Mapping[int, Scope]] = {
    memory_pb2.SPACE_SCOPE_UNSPECIFIED: Scope.SPACE,
    memory_pb2.SPACE_SCOPE_SPACE: Scope.SPACE,
    memory_pb2.SPACE_SCOPE_WITHIN: Scope.WITHIN,
    memory_pb2.SPACE_SCOPE_AROUND: Scope.AROUND,
}


def place_of(collection: str, space: str, scope: int = 0, *, field: str = "space") -> Place:
    """Read where memories are.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    check_space(space, field=field)
    if scope not in _SCOPES:
        raise field_invalid("scope", f"{scope} is not a scope")
    return Place(collection or DEFAULT_COLLECTION, space, _SCOPES[scope])


def drafts_of(
    memories: Sequence[memory_pb2.Memory], *, payload_max_bytes: int
) -> list[MemoryDraft]:
    """Read what is to be remembered.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    if not 1 <= len(memories) <= MAX_MEMORIES:
        raise field_invalid("memories", f"must have 1 to {MAX_MEMORIES} entries")
    return [
        _draft_of(memory, f"memories[{index}]", payload_max_bytes)
        for index, memory in enumerate(memories)
    ]


def ttl_of(message: Duration) -> timedelta | None:
    """Read for how long something is remembered; None unless it is said.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    ttl = _span_of(message)
    if ttl and not MIN_TTL <= ttl <= MAX_TTL:
        raise field_invalid("ttl", "must be from a second to 36,500 days, or 0")
    return ttl or None


def question_of(message: memory_service_pb2.RecallRequest, *, filter_max_bytes: int) -> Question:
    """Read what is to be recalled.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    _check_text(message.query, "query")
    if not 0 <= message.limit <= MAX_LIMIT:
        raise field_invalid("limit", f"must be from 1 to {MAX_LIMIT}, or 0 for {DEFAULT_LIMIT}")
    least = message.min_relevance if message.HasField("min_relevance") else None
    if least is not None and not -1 <= least <= 1:
        raise field_invalid("min_relevance", "must be from -1 to 1")
    return Question(
        text=message.query,
        limit=message.limit or DEFAULT_LIMIT,
        filter=filter_of(message.filter, field="filter", max_bytes=filter_max_bytes),
        weights=_weights_of(message),
        min_relevance=None if least is None else least_score(least),
    )


def forgotten_of(
    message: memory_service_pb2.ForgetRequest, scope: Scope, *, filter_max_bytes: int
) -> tuple[Sequence[str] | None, Node | None]:
    """Read what is to be forgotten: ids, or None and a filter.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    if message.HasField("filter"):
        if message.ids:
            raise field_invalid("filter", "must not be set beside ids")
        return None, filter_of(message.filter, field="filter", max_bytes=filter_max_bytes)
    if not 1 <= len(message.ids) <= MAX_IDS:
        raise field_invalid("ids", f"must have 1 to {MAX_IDS} entries, unless there is a filter")
    if scope is not Scope.SPACE:
        raise field_invalid("scope", "must be the space alone for ids")
    for index, each in enumerate(message.ids):
        check_id(each, field=f"ids[{index}]")
    return list(message.ids), None


def write_memory(memory: Memory, into: memory_pb2.Memory) -> None:
    """Fill in a memory."""
    into.id = memory.id
    into.space = memory.space
    into.text = memory.text
    json_to_struct(orjson.loads(memory.metadata), into.metadata)
    into.importance = memory.importance
    if memory.time is not None:
        into.time.FromDatetime(memory.time)
    if memory.expires_at is not None:
        into.expire_time.FromDatetime(memory.expires_at)


def write_recalled(recalled: Recalled, into: memory_pb2.RecalledMemory) -> None:
    """Fill in a memory and why it was recalled."""
    write_memory(recalled.memory, into.memory)
    into.score = recalled.score
    into.relevance = recalled.relevance
    into.recency = recalled.recency


def write_space(space: MemorySpace, into: memory_pb2.MemorySpace) -> None:
    """Fill in a space."""
    into.space = space.space
    into.memory_count = space.memories
    into.latest_time.FromDatetime(space.latest)


def _draft_of(memory: memory_pb2.Memory, field: str, payload_max_bytes: int) -> MemoryDraft:
    if memory.id:
        check_id(memory.id, field=f"{field}.id")
    _check_text(memory.text, f"{field}.text")
    if not 0 <= memory.importance <= 1:
        raise field_invalid(f"{field}.importance", "must be from 0 to 1")
    time = time_of(memory.time, field=f"{field}.time") if memory.HasField("time") else None
    metadata = read_payload(
        memory.metadata, field=f"{field}.metadata", limit_bytes=payload_max_bytes
    )
    return MemoryDraft(memory.id, memory.text, metadata, memory.importance, time)


def _check_text(text: str, field: str) -> None:
    if not 1 <= len(text) <= MAX_TEXT_CHARACTERS or "\0" in text:
        limit = f"must be 1 to {MAX_TEXT_CHARACTERS} characters, none U+0000"
        raise field_invalid(field, limit)


def _weights_of(message: memory_service_pb2.RecallRequest) -> Weights:
    half_life = DEFAULT_HALF_LIFE
    if message.HasField("half_life"):
        half_life = _span_of(message.half_life)
        if half_life < LEAST_HALF_LIFE:
            raise field_invalid("half_life", "must be a millisecond or more")
    weights = {}
    for name in ("recency_weight", "importance_weight"):
        weight = getattr(message, name) if message.HasField(name) else DEFAULT_WEIGHT
        if not 0 <= weight <= MAX_WEIGHT:
            raise field_invalid(name, f"must be from 0 to {MAX_WEIGHT:g}")
        weights[name] = weight
    return Weights(half_life, weights["recency_weight"], weights["importance_weight"])


def _span_of(message: Duration) -> timedelta:
    """Return a duration, or one that is refused everywhere."""
    try:
        return message.ToTimedelta()
    except (OverflowError, ValueError):
        return timedelta.min
