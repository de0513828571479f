"""What a simulated model says: words by a seed, instances of schemas, calls of tools."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from stepwire.testing.fleet.plan import Turn

CHARACTERS_PER_TOKEN = 4
_TEXT = (
    "the river rose by a metre in June and fell again while nobody on either bank was "
    "hurt since most had left in time as the weather in May had been dry for once"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: its tokens (each with its leading space), or calls of tools.

    Attributes:
        tokens: Pieces of the text, each counted as one token.
        calls: Calls of tools; then there is no text.
        cut: Whether the answer reached its longest length.
    """

    tokens: Sequence[str]
    calls: Sequence[ToolCall] = ()
    cut: bool = False

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.tokens)

    @property
    def count(self) -> int:
        """Tokens written, those of calls included."""
        return len(self.tokens) + sum(count_text(call.arguments) + 1 for call in self.calls)


def count_text(text: str) -> int:
    """Returns the tokens of a text that is read."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def count_prompt(body: Mapping[str, Any]) -> int:
    """Returns the tokens of a chat request."""
    return sum(
        count_text(_text_of(message.get("content"))) + CHARACTERS_PER_TOKEN
        for message in body["messages"]
    )


def say(body: Mapping[str, Any], turn: Turn, *, length: int, random: Random) -> Said:
    """Returns what the model answers to a chat request, of about `length` tokens."""
    calls = _calls(body, turn, random)
    if calls:
        return Said((), calls)
    if turn.text is not None:
        tokens = _pieces(turn.text)
    elif (schema := _schema(body)) is not None:
        tokens = _pieces(orjson.dumps(instance_of(schema)).decode())
    else:
        start = random.randrange(len(_WORDS))
        words = (_WORDS[(start + index) % len(_WORDS)] for index in range(max(1, length)))
        tokens = [word if index == 0 else f" {word}" for index, word in enumerate(words)]
    longest = body.get("max_completion_tokens") or body.get("max_tokens")
    if longest and len(tokens) > longest:
        return Said(tokens[:longest], cut=True)
    return Said(tokens)


def instance_of(schema: Any) -> Any:  # noqa: PLR0911  (one return for each type)
    """Returns a small value that keeps a JSON Schema of the usual kind."""
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return instance_of(schema[union][0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance_of(each) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance_of(schema.get("items", {}))] * max(1, int(schema.get("minItems", 1)))
    return {
        "string": "text",
        "integer": int(schema.get("minimum", 1)),
        "number": schema.get("minimum", 1.5),
        "boolean": True,
    }.get(kind)


def _calls(body: Mapping[str, Any], turn: Turn, random: Random) -> list[ToolCall]:
    def call(name: str, arguments: Any) -> ToolCall:
        return ToolCall(
            f"call_{random.getrandbits(32):08x}", name, orjson.dumps(arguments).decode()
        )

    if turn.tool_calls:
        return [call(each.name, each.arguments) for each in turn.tool_calls]
    tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or ()}
    chosen = _chosen_tool(body, tools)
    if chosen is None:
        return []
    return [call(chosen, instance_of(tools[chosen].get("parameters") or {"type": "object"}))]


def _chosen_tool(body: Mapping[str, Any], tools: Mapping[str, Any]) -> str | None:
    choice = body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        name = choice.get("function", {}).get("name")
        return name if name in tools else None
    if choice == "required":
        return next(iter(tools))
    # Left to the model: it calls a tool that the user names.
    last = body["messages"][-1]
    text = _text_of(last.get("content")) if last.get("role") == "user" else ""
    return next((name for name in tools if name in text), None)


def _schema(body: Mapping[str, Any]) -> Any:
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return form.get("json_schema", {}).get("schema", {})
    return {"type": "object"} if form.get("type") == "json_object" else None


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)]


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return content or ""
