"""Turns kept answers into bytes, for the record, and back."""

from typing import Any, Final
from uuid import UUID

import orjson

from router_svc.cache.records import Kept
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
