"""The body of a chat completion's request, as clients of OpenAI send it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag

# What changes answers and cannot be passed on, with the values that ask for nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "functions": ([],),
    "function_call": (),
    "prediction": (),
    "web_search_options": (),
    "parallel_tool_calls": (True,),
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class TextPart(_Part):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str


class ImageUrl(_Part):
    """Where a picture is: an address, or all of it as a `data:` URL."""

    url: str


class ImagePart(_Part):
    """A part of a message that is a picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


class CalledFunction(_Part):
    """What a model called."""

    name: str
    arguments: str = "{}"


class CalledTool(_Part):
    """A call of a tool in a message of the model."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


Part = Annotated[TextPart | ImagePart, Discriminator("type")]


def _form(content: object) -> str:
    return "parts" if isinstance(content, list) else "text"


class Message(_Part):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: (
        Annotated[
            Annotated[str, Tag("text")] | Annotated[list[Part], Tag("parts")], Discriminator(_form)
        ]
        | None
    ) = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None


class Function(_Part):
    """A function that a model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(_Part):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class NamedFunction(_Part):
    """The name of a function."""

    name: str


class NamedTool(_Part):
    """The one tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


def _choice(choice: object) -> str:
    return "mode" if isinstance(choice, str) else "named"


class Schema(_Part):
    """A JSON Schema."""

    name: str = ""
    schema_: dict[str, Any] | None = None

    model_config = ConfigDict(
        extra="ignore", strict=True, frozen=True, alias_generator=lambda name: name.rstrip("_")
    )


class ResponseFormat(_Part):
    """Which form the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class StreamOptions(_Part):
    """What a stream has besides."""

    include_usage: bool = False


class ChatBody(BaseModel):
    """The body. What it has besides is in `model_extra`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    tools: list[Tool] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["none", "auto", "required"], Tag("mode")]
            | Annotated[NamedTool, Tag("named")],
            Discriminator(_choice),
        ]
        | None
    ) = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stepwire: dict[str, Any] | None = None
