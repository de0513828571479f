"""Generate's messages: requests checked against their limits, and answers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from model_svc.decode import decode_priority
from model_svc.encode import encode_run
from model_svc.generation.ports import TextGenerator
from model_svc.generation.records import (
    DEFAULT_MAX_TOKENS,
    MAX_PROMPT_CHARACTERS,
    ChatMessage,
    ChatRole,
    Ended,
    Finish,
    GenerateCall,
    Sampling,
    prompt_fault,
)
from stepwire.api.model.v1 import generate_pb2 as pb
from stepwire.errors import field_invalid

MAX_MESSAGES: Final = 256
MAX_STOPS: Final = 8
MAX_STOP_CHARACTERS: Final = 100
MAX_TEMPERATURE: Final = 2.0
MAX_TOP_K: Final = 1_000
MAX_PENALTY: Final = 10.0

_ROLES: Final[Mapping[int, ChatRole]] = MappingProxyType(
    {
        pb.CHAT_ROLE_SYSTEM: ChatRole.SYSTEM,
        pb.CHAT_ROLE_USER: ChatRole.USER,
        pb.CHAT_ROLE_ASSISTANT: ChatRole.ASSISTANT,
    }
)
_FINISHES: Final = MappingProxyType(
    {Finish.STOP: pb.FINISH_REASON_STOP, Finish.LENGTH: pb.FINISH_REASON_LENGTH}
)


def decode_generate(request: pb.GenerateRequest) -> GenerateCall:
    """Returns the text that is to be written.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if bool(request.prompt) == bool(request.messages):
        raise field_invalid("prompt", "must be given, or messages, and not both")
    if len(request.messages) > MAX_MESSAGES:
        raise field_invalid("messages", f"must have at most {MAX_MESSAGES} entries")
    messages = [_message(index, said) for index, said in enumerate(request.messages)]
    if fault := prompt_fault(request.prompt):
        raise field_invalid("prompt", fault)
    if sum(len(said.text) for said in messages) > MAX_PROMPT_CHARACTERS:
        raise field_invalid(
            "messages", f"must have at most {MAX_PROMPT_CHARACTERS} characters together"
        )
    if request.max_tokens < 0:
        raise field_invalid("max_tokens", "must not be negative")
    return GenerateCall(
        prompt=request.prompt,
        messages=messages,
        max_tokens=request.max_tokens or DEFAULT_MAX_TOKENS,
        sampling=_sampling(request.sampling),
        stop=_stops(request),
        priority=decode_priority(request.priority),
    )


def encode_piece(piece: str | Ended, name: str, model: TextGenerator) -> pb.GenerateResponse:
    """Returns one message of the answer."""
    if isinstance(piece, str):
        return pb.GenerateResponse(text=piece)
    return pb.GenerateResponse(
        end=pb.GenerateEnd(
            model=name,
            finish_reason=_FINISHES[piece.finish],
            input_tokens=piece.input_tokens,
            output_tokens=piece.output_tokens,
            first_token_us=int(piece.first_token_seconds * 1_000_000),
            run=encode_run(piece.ran, model),
        )
    )


def _message(index: int, said: pb.ChatMessage) -> ChatMessage:
    if said.role not in _ROLES:
        raise field_invalid(f"messages[{index}].role", "must be SYSTEM, USER or ASSISTANT")
    if fault := prompt_fault(said.text):
        raise field_invalid(f"messages[{index}].text", fault)
    return ChatMessage(_ROLES[said.role], said.text)


def _sampling(given: pb.Sampling) -> Sampling:
    temperature = given.temperature if given.HasField("temperature") else None
    top_p = given.top_p if given.HasField("top_p") else None
    seed = given.seed if given.HasField("seed") else None
    # Written so that NaN is refused, too.
    if temperature is not None and not 0 <= temperature <= MAX_TEMPERATURE:
        raise field_invalid("sampling.temperature", f"must be from 0 to {MAX_TEMPERATURE:g}")
    if top_p is not None and not 0 < top_p <= 1:
        raise field_invalid("sampling.top_p", "must be above 0, and at most 1")
    if not 0 <= given.top_k <= MAX_TOP_K:
        raise field_invalid("sampling.top_k", f"must be from 0 to {MAX_TOP_K}")
    if not 0 <= given.repetition_penalty <= MAX_PENALTY:
        raise field_invalid("sampling.repetition_penalty", f"must be from 0 to {MAX_PENALTY:g}")
    if seed is not None and seed < 0:
        raise field_invalid("sampling.seed", "must not be negative")
    return Sampling(
        temperature=temperature,
        top_p=top_p,
        top_k=given.top_k or None,
        repetition_penalty=given.repetition_penalty or None,
        seed=seed,
    )


def _stops(request: pb.GenerateRequest) -> list[str]:
    if len(request.stop) > MAX_STOPS:
        raise field_invalid("stop", f"must have at most {MAX_STOPS} entries")
    for index, stop in enumerate(request.stop):
        if not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            raise field_invalid(
                f"stop[{index}]", f"must have from 1 to {MAX_STOP_CHARACTERS} characters"
            )
    return list(request.stop)
