"""Holds answers against the schema that was asked for, and tells a model what was wrong."""

from dataclasses import replace

from router_svc.catalogue.models import Model
from router_svc.decide.filters import output_tokens
from router_svc.decide.records import Candidate
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.ports import CountTokens
from router_svc.generate.records import Completion, FailedTry, FinishReason
from router_svc.requests.records import Message, Request, Role
from router_svc.requests.schema import answer_fault

# Of an answer that is put before the model again; more would cost more than it helps.
MAX_QUOTED_CHARACTERS = 8_000

_FAILURE = "its answer does not keep the schema: "
_CORRECTION = (
    "That does not keep the schema: {fault}. Answer once more, with nothing but JSON that does."
)
# What a chat template adds to the two messages, at most.
_TEMPLATE_TOKENS = 64
# An answer that was cut, or that calls tools, is not meant to keep the schema.
_WHOLE = frozenset({FinishReason.STOP, FinishReason.UNKNOWN})


def hold_against_schema(request: Request, completion: Completion) -> None:
    """Returns when `completion` is what was asked for.

    Raises:
        ProviderFailure: OFF_SCHEMA: it does not keep the request's schema.
    """
    wanted = request.json_schema
    if wanted is None or completion.tool_calls or completion.finish not in _WHOLE:
        return
    if fault := answer_fault(wanted.schema, completion.text):
        raise ProviderFailure(
            FailureKind.OFF_SCHEMA,
            f"{_FAILURE}{fault}",
            status="off_schema",
            said=completion.text,
        )


def corrected(
    request: Request, candidate: Candidate, failed: FailedTry, count: CountTokens
) -> tuple[Request, Candidate]:
    """Returns the request that tells the model what was wrong with its answer.

    And the model as it looks for that: with more to read, and a higher worst cost. Both are
    the same as before where there is no such failure, or the window has no room for it.
    """
    failure = failed.failure
    if failure.kind is not FailureKind.OFF_SCHEMA or failed.name != candidate.model.name:
        return request, candidate
    said = failure.said[:MAX_QUOTED_CHARACTERS]
    told = _CORRECTION.format(fault=failure.message.removeprefix(_FAILURE))
    more = count(candidate.model.tokenizer, said + told) + _TEMPLATE_TOKENS
    longer = replace(
        candidate,
        input_tokens=candidate.input_tokens + more,
        worst_cost_micro_usd=candidate.worst_cost_micro_usd
        + candidate.price.worst_micro_usd(
            # No tokenizer makes more tokens of a text than it has bytes.
            input_tokens=len((said + told).encode()) + _TEMPLATE_TOKENS,
            output_tokens=0,
        ),
    )
    if not _fits(longer, candidate.model, request):
        return request, candidate
    messages = (Message(Role.ASSISTANT, said), Message(Role.USER, told))
    return replace(request, messages=request.messages + messages), longer


def _fits(candidate: Candidate, model: Model, request: Request) -> bool:
    return candidate.input_tokens + output_tokens(model, request) <= model.context_window
