"""Turns the domain's answers into those of the API."""

from router_svc.decide.codec import encode_decision
from router_svc.generate.records import Answer, CacheHit, FinishReason, HitKind, Piece
from router_svc.generate.usage import Usage
from router_svc.requests.records import ToolCall
from stepwire.api.router.v1 import cache_pb2 as cache_pb
from stepwire.api.router.v1 import message_pb2 as message_pb
from stepwire.api.router.v1 import router_service_pb2 as pb

_FINISHES = {
    FinishReason.UNKNOWN: message_pb.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: message_pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: message_pb.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: message_pb.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: message_pb.FINISH_REASON_CONTENT_FILTER,
}

_HITS = {
    HitKind.EXACT: cache_pb.CACHE_HIT_KIND_EXACT,
    HitKind.SEMANTIC: cache_pb.CACHE_HIT_KIND_SEMANTIC,
    HitKind.JOINED: cache_pb.CACHE_HIT_KIND_JOINED,
}


def encode_answer(answer: Answer, *, account_only: bool = False) -> pb.GenerateResponse:
    """Returns `answer` as a response.

    Args:
        answer: The answer.
        account_only: Whether to leave out its text and calls, which were sent before.
    """
    completion = answer.completion
    return pb.GenerateResponse(
        text="" if account_only else completion.text,
        tool_calls=[] if account_only else [_call(each) for each in completion.tool_calls],
        citations=[
            message_pb.Citation(document_id=citation.document_id, quote=citation.quote)
            for citation in completion.citations
        ],
        model=answer.model.name,
        usage=_usage(answer.usage, answer.cost_micro_usd),
        decision=encode_decision(answer.decision),
        finish_reason=_FINISHES[completion.finish],
        attempts=[
            pb.FailedAttempt(
                model=each.name,
                endpoint=each.endpoint if each.failure.called else "",
                kind=each.kind,
                message=str(each.failure),
                called=each.failure.called,
                hedge=each.hedge,
                seconds=each.seconds,
            )
            for each in answer.failed
        ],
        cache_hit=None if answer.hit is None else _hit(answer.hit),
    )


def encode_piece(piece: Piece) -> pb.StreamGenerateResponse:
    """Returns a piece of a streamed answer as a response."""
    if piece.end is not None:
        return pb.StreamGenerateResponse(end=encode_answer(piece.end, account_only=True))
    if piece.tool_call is not None:
        return pb.StreamGenerateResponse(tool_call=_call(piece.tool_call))
    return pb.StreamGenerateResponse(text=piece.text)


def _hit(hit: CacheHit) -> cache_pb.CacheHit:
    told = cache_pb.CacheHit(kind=_HITS[hit.kind], similarity=hit.similarity)
    told.age.FromNanoseconds(int(hit.age_seconds * 1e9))
    return told


def _call(call: ToolCall) -> message_pb.ToolCall:
    return message_pb.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)


def _usage(usage: Usage, cost_micro_usd: int) -> message_pb.Usage:
    return message_pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_micro_usd=cost_micro_usd,
        cached_input_tokens=usage.cached_input_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated=usage.estimated,
    )
