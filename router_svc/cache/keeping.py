"""Which answers are kept, and how a kept one is given again. Pure."""

from dataclasses import replace
from datetime import UTC, datetime

from router_svc.cache.records import Ask, Found, Kept
from router_svc.catalogue.models import Model
from router_svc.decide.records import (
    Candidate,
    Complexity,
    Decision,
    DecisionReason,
    Need,
    RejectionCode,
)
from router_svc.generate.records import Answer, CacheHit, FinishReason, HitKind, Piece

# An answer that was cut, or whose end nobody knows, is not the answer.
WHOLE = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})
# Not what would be decided when all is well and nothing is tried out.
EXCEPTIONAL = frozenset(
    {DecisionReason.BETTER_ONE_RESTS, DecisionReason.EXPLORED, DecisionReason.HEDGED}
)
# Of a text that is sent again as a stream; it is cut after a space.
PIECE_CHARACTERS = 1_024


def is_worth_keeping(answer: Answer) -> bool:
    """Returns whether `answer` may be given again."""
    said = answer.completion
    return (
        answer.hit is None
        and said.finish in WHOLE
        and bool(said.text or said.tool_calls)
        and not EXCEPTIONAL.intersection(answer.decision.reasons)
        and not any(map(_is_too_dear, answer.decision.rejected))
        # A fallback's answer is not what is wanted when all is well.
        and all(each.name == answer.model.name for each in answer.failed)
    )


def _is_too_dear(rejected: Candidate) -> bool:
    """Returns whether nothing but what budgets had left kept a model from answering."""
    return all(each.code is RejectionCode.BUDGET for each in rejected.rejections)


def kept_of(answer: Answer, ask: Ask, *, tags: tuple[str, ...], now: float) -> Kept:
    """Returns `answer` as it is kept; `now` is in seconds of the wall clock."""
    return Kept(
        key=ask.key,
        partition=ask.partition,
        tenant_id=ask.tenant_id,
        question=ask.question,
        model=answer.model.name,
        completion=answer.completion,
        usage=answer.usage,
        cost_micro_usd=answer.cost_micro_usd,
        decision_id=answer.decision.decision_id,
        tags=tags,
        kept_at=now,
    )


def given_again(found: Found, model: Model, *, catalogue_version: str, now: float) -> Answer:
    """Returns a kept answer as it is given again.

    Args:
        found: The answer.
        model: The model that gave it.
        catalogue_version: Of the catalogue that has the model.
        now: In seconds of the wall clock.
    """
    kept = found.kept
    age = max(0.0, now - kept.kept_at)
    usage = kept.usage
    candidate = Candidate(
        model=model,
        price=model.price_at(datetime.now(UTC)) or model.prices[0],
        quality=model.quality,
        input_tokens=usage.input_tokens,
        exact=not usage.estimated,
        cost_micro_usd=0,
        worst_cost_micro_usd=0,
    )
    decision = Decision(
        decision_id=kept.decision_id,
        tries=(candidate,),
        rejected=(),
        explanation=f"{model.name} gave this answer {age:.0f} s ago",
        reasons=(DecisionReason.CACHED,),
        need=Need(0.0, "", required=False),
        complexity=Complexity(0.0),
        kind=None,
        propensity=1.0,
        predictor_version=0,
        catalogue_version=catalogue_version,
    )
    return Answer(
        completion=kept.completion,
        usage=usage,
        cost_micro_usd=0,
        decision=decision,
        model=model,
        hit=CacheHit(found.kind, age, found.similarity, kept.cost_micro_usd),
    )


def shared(answer: Answer) -> Answer:
    """Returns the answer of a call as those get it who waited for it."""
    if answer.hit is not None:
        return answer
    hit = CacheHit(HitKind.JOINED, saved_micro_usd=answer.cost_micro_usd)
    return replace(answer, cost_micro_usd=0, failed=(), hit=hit)


def pieces_of(answer: Answer) -> list[Piece]:
    """Returns an answer that is there already as a stream."""
    completion = answer.completion
    return [
        *(Piece(text=text) for text in _cut(completion.text)),
        *(Piece(tool_call=call) for call in completion.tool_calls),
        Piece(end=answer),
    ]


def _cut(text: str) -> list[str]:
    pieces, start = [], 0
    while start < len(text):
        end = start + PIECE_CHARACTERS
        space = text.rfind(" ", start, end) + 1 if end < len(text) else 0
        end = space if space > start else end
        pieces.append(text[start:end])
        start = end
    return pieces
