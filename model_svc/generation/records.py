"""Values of one call that has a text written."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from model_svc.ports import Ran

DEFAULT_MAX_TOKENS: Final = 256
MAX_PROMPT_CHARACTERS: Final = 100_000


class ChatRole(StrEnum):
    """Who says something; the values are those that chat templates know."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """What somebody said."""

    role: ChatRole
    text: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How each token is chosen; None for what the model's own files say.

    Attributes:
        temperature: 0 for the most probable token, always; above, tokens are drawn.
        top_p: Draws among the most probable tokens that together have this probability.
        top_k: Draws among so many of the most probable tokens.
        repetition_penalty: Divides the scores of tokens that were there already.
        seed: Makes draws the same again.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerateCall:
    """A text that is to be written.

    Attributes:
        prompt: What it continues; empty if `messages` are given.
        messages: The conversation that it continues.
        max_tokens: Its longest length.
        sampling: How each token is chosen.
        stop: Texts before which it ends.
        priority: From 1, the highest; 0 for the model's default.
        timeout_seconds: How long each token may wait for its turn; None for the model's default.
    """

    prompt: str = ""
    messages: Sequence[ChatMessage] = ()
    max_tokens: int = DEFAULT_MAX_TOKENS
    sampling: Sampling = Sampling()
    stop: Sequence[str] = ()
    priority: int = 0
    timeout_seconds: float | None = None


def prompt_fault(text: str) -> str:
    """Returns what is wrong with a text that is to be continued; empty if nothing is."""
    if len(text) > MAX_PROMPT_CHARACTERS:
        return f"must have at most {MAX_PROMPT_CHARACTERS} characters"
    # onnxruntime-genai reads no further.
    return "must not contain the character U+0000" if "\0" in text else ""


class Finish(Enum):
    """Why a text ended."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a text.

    Attributes:
        finish: Why.
        input_tokens: Tokens read.
        output_tokens: Tokens written, with one that ended it.
        first_token_seconds: How long the first of them took.
        ran: How the call was carried out.
    """

    finish: Finish
    input_tokens: int
    output_tokens: int
    first_token_seconds: float
    ran: Ran
