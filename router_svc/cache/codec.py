"""Turns kept answers into bytes, for the record and for Redis, and back."""

from typing import Any, Final
from uuid import UUID

import orjson

from router_svc.cache.records import Kept, Marked
from router_svc.generate.records import Citation, Completion, FinishReason
from router_svc.generate.usage import Usage
from router_svc.requests.records import ToolCall

FORM: Final = 1


def encode_kept(kept: Kept) -> bytes:
    """Returns `kept` as JSON, without its age."""
    said, usage = kept.completion, kept.usage
    return orjson.dumps(
        {
            "form": FORM,
            "partition": kept.partition.hex(),
            "question": kept.question,
            "model": kept.model,
            "text": said.text,
            "citations": [[each.document_id, each.quote] for each in said.citations],
            "tool_calls": [[each.id, each.name, each.arguments_json] for each in said.tool_calls],
            "finish": said.finish.value,
            "version": said.model,
            "usage": [
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_input_tokens,
                usage.reasoning_tokens,
                usage.estimated,
            ],
            "cost_micro_usd": kept.cost_micro_usd,
            "decision_id": str(kept.decision_id),
            "tags": kept.tags,
        }
    )


def decode_kept(data: bytes, *, key: bytes, tenant_id: str, kept_at: float) -> Kept | None:
    """Returns what `encode_kept` made; None for a form that another version wrote."""
    read: dict[str, Any] = orjson.loads(data)
    if read["form"] != FORM:
        return None
    usage = Usage(*read["usage"])
    completion = Completion(
        text=read["text"],
        citations=tuple(Citation(*each) for each in read["citations"]),
        usage=usage,
        tool_calls=tuple(ToolCall(*each) for each in read["tool_calls"]),
        finish=FinishReason(read["finish"]),
        model=read["version"],
    )
    return Kept(
        key=key,
        partition=bytes.fromhex(read["partition"]),
        tenant_id=tenant_id,
        question=read["question"],
        model=read["model"],
        completion=completion,
        usage=usage,
        cost_micro_usd=read["cost_micro_usd"],
        decision_id=UUID(read["decision_id"]),
        tags=tuple(read["tags"]),
        kept_at=kept_at,
    )


def encode_marked(marked: Marked, *, clock_ahead_seconds: float) -> bytes:
    """Returns an answer as Redis has it: a line about it, and what `encode_kept` makes.

    Args:
        marked: The answer.
        clock_ahead_seconds: How far the clock of Redis is ahead of one's own.
    """
    kept = marked.kept
    kept_at = kept.kept_at + clock_ahead_seconds
    about = [FORM, kept.key.hex(), kept.tenant_id, marked.mark, kept_at]
    return orjson.dumps(about) + b"\n" + encode_kept(kept)


def decode_marked(data: bytes, *, key: bytes, clock_ahead_seconds: float) -> Marked | None:
    """Returns what `encode_marked` made; None for what it did not make, or not of this key."""
    try:
        line, _, answer = data.partition(b"\n")
        form, named, tenant_id, mark, kept_at = orjson.loads(line)
        if (form, named) != (FORM, key.hex()):
            return None
        there = kept_at - clock_ahead_seconds
        kept = decode_kept(answer, key=key, tenant_id=tenant_id, kept_at=there)
    except (ValueError, TypeError, KeyError):
        return None
    return None if kept is None else Marked(kept, mark)
