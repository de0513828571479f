"""What a caller asks, as the domain sees it: decoded, checked, immutable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import orjson

from router_svc.catalogue.kinds import Tier


class Role(StrEnum):
    """Author of a message; the values are those of chat completions."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: its address, or its bytes and their media type."""

    url: str = ""
    data: bytes = b""
    media_type: str = "image/png"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that a model asked for; the arguments are JSON as it wrote them."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None


class ToolMode(StrEnum):
    """Whether any tool is called; the values are those of chat completions."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A JSON Schema that the answer must keep."""

    schema: Mapping[str, Any]
    name: str = "answer"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Who wrote it.
        content: Its text.
        images: Pictures that belong to it.
        tool_calls: What the model asked for, in its own messages.
        tool_call_id: Which call a tool's message answers.
    """

    role: Role
    content: str
    images: tuple[Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A text that the answer may rely on; `id` is how the answer cites it."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Attribution:
    """For whom a request is made, within its tenant; empty where nobody said."""

    project: str = ""
    task_id: str = ""
    step_id: str = ""


class CacheMode(StrEnum):
    """Which earlier answers may be given again."""

    OFF = "off"
    EXACT = "exact"
    SEMANTIC = "semantic"


@dataclass(frozen=True, slots=True)
class CacheControl:
    """Whether the answer may come from the cache.

    Attributes:
        mode: Which earlier answers may be given again.
        max_age_seconds: Oldest answer accepted; 0 is the cache's own limit.
        tags: Names by which the answer is removed later.
        scope: Answers are shared among requests of the same one.
    """

    mode: CacheMode = CacheMode.OFF
    max_age_seconds: float = 0.0
    tags: tuple[str, ...] = ()
    scope: str = ""


@dataclass(frozen=True)
class Request:
    """A request to decide on and to answer.

    Attributes:
        messages: The conversation, oldest first; the last is the user's, or a tool's.
        documents: What to answer from and to cite, the most relevant first.
        model: The one model that may answer; empty when the router chooses.
        min_quality: Lowest quality accepted, 0 to 1; 0 leaves the need to the router.
        capabilities: What the model must be able to do, beside what the request shows.
        max_cost_micro_usd: Highest expected cost accepted; 0 means any.
        language: Language that the model must know; empty means any.
        min_tier: Lowest tier accepted; None means any.
        seed: Of what decisions leave to chance; 0 means drawn from the request's text.
        max_output_tokens: Longest answer; 0 means the model's own limit.
        temperature: Sampling temperature; None means the model's own default.
        top_p: Share of the probability mass; None means the model's own default.
        stop: Texts at which the answer ends.
        sampling_seed: Of the provider's sampling; None means none.
        tools: What the model may ask for.
        tool_choice: Whether it must ask for any.
        required_tool: The one tool that it must ask for; empty means none.
        json_schema: What the answer must keep; None means free text.
        attribution: For whom it is made.
        cache: Whether the answer may come from the cache.
    """

    messages: tuple[Message, ...]
    documents: tuple[Document, ...] = ()
    model: str = ""
    min_quality: float = 0.0
    capabilities: tuple[str, ...] = ()
    max_cost_micro_usd: int = 0
    language: str = ""
    min_tier: Tier | None = None
    seed: int = 0
    max_output_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    sampling_seed: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolMode = ToolMode.AUTO
    required_tool: str = ""
    json_schema: JsonSchema | None = None
    attribution: Attribution = field(default_factory=Attribution)
    cache: CacheControl = field(default_factory=CacheControl)

    @property
    def question(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content

    @cached_property
    def pictures(self) -> int:
        """How many pictures there are in all messages."""
        return sum(len(message.images) for message in self.messages)

    @cached_property
    def needed_capabilities(self) -> tuple[str, ...]:
        """What the model must be able to do: what is asked for, and what the request shows."""
        shown = {
            "tools": bool(self.tools),
            "json": self.json_schema is not None,
            "vision": self.pictures > 0,
        }
        asked = dict.fromkeys(self.capabilities)
        return tuple(asked | dict.fromkeys(name for name, needed in shown.items() if needed))

    @cached_property
    def specification(self) -> str:
        """The JSON of tools and schema, which the model reads beside the conversation."""
        parts: list[Any] = [
            [tool.name, tool.description, dict(tool.parameters or {})] for tool in self.tools
        ]
        if self.json_schema is not None:
            parts.append(dict(self.json_schema.schema))
        return orjson.dumps(parts).decode() if parts else ""
