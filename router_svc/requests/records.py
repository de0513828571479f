"""What a caller asks, as the domain sees it: decoded, checked, immutable."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Author of a message; the values are those of chat completions."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text that the answer may rely on; `id` is how the answer cites it."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """A request to decide on and to answer.

    Attributes:
        messages: The conversation, oldest first; the last is the user's.
        documents: What to answer from and to cite, the most relevant first.
        model: The one model that may answer; empty when the router chooses.
        min_quality: Lowest quality accepted, 0 to 1; 0 leaves the need to the router.
        capabilities: What the model must be able to do.
        max_output_tokens: Longest answer; 0 means the model's own limit.
        temperature: Sampling temperature; None means the model's own default.
    """

    messages: tuple[Message, ...]
    documents: tuple[Document, ...] = ()
    model: str = ""
    min_quality: float = 0.0
    capabilities: tuple[str, ...] = ()
    max_output_tokens: int = 0
    temperature: float | None = None

    @property
    def question(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content
