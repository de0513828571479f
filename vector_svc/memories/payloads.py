"""Memories as the payloads of points, and back. Pure."""

import hashlib
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from stepwire.errors import payload_too_large
from vector_svc.engine.records import StoredPoint
from vector_svc.memories.records import Memory, MemoryDraft
from vector_svc.memories.spaces import SPACE, SPACES, around, memory_id

TIME: Final = "time"

_ID_BYTES: Final = 16


def id_of(draft: MemoryDraft) -> str:
    """Return a memory's id: the caller's, or one that is made of the text."""
    return draft.id or hashlib.blake2b(draft.text.encode(), digest_size=_ID_BYTES).hexdigest()


def payload_of(
    space: str, draft: MemoryDraft, *, now: datetime, field: str, limit_bytes: int
) -> bytes:
    """Return a memory as JSON.

    Args:
        space: The space that it is in.
        draft: The memory.
        now: Its time, unless it has one.
        field: What it is in the request, for errors.
        limit_bytes: Largest payload.

    Raises:
        StepwireError: PAYLOAD_TOO_LARGE.
    """
    data = orjson.dumps(
        {
            SPACE: space,
            SPACES: around(space),
            "text": draft.text,
            TIME: (draft.time or now).astimezone(UTC),
            "importance": draft.importance,
            "metadata": orjson.Fragment(draft.metadata),
        },
        option=orjson.OPT_UTC_Z,
    )
    if len(data) > limit_bytes:
        raise payload_too_large(field, size_bytes=len(data), limit_bytes=limit_bytes)
    return data


def memory_of(point: StoredPoint) -> Memory:
    """Read a memory. What somebody else wrote into the point is taken as far as it fits."""
    payload: dict[str, Any] = orjson.loads(point.payload)
    metadata = payload.get("metadata")
    return Memory(
        id=memory_id(point.id),
        space=_text(payload.get(SPACE)),
        text=_text(payload.get("text")),
        metadata=orjson.dumps(metadata) if isinstance(metadata, dict) else b"{}",
        importance=_number(payload.get("importance")),
        time=_time(payload.get(TIME)),
        expires_at=point.expires_at,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(_text(value))
    except ValueError:
        return None
    return time if time.tzinfo else None
