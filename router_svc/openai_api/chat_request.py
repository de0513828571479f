"""Turns the body of a chat completion into a request of the router."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct
from pydantic import ValidationError

from router_svc.openai_api import faults
from router_svc.openai_api.chat_body import (
    UNSUPPORTED,
    ChatBody,
    ImagePart,
    Message,
    NamedTool,
    ResponseFormat,
    TextPart,
    Tool,
)
from router_svc.requests.decode import decode_request
from router_svc.requests.records import Request
from stepwire.api.router.v1 import message_pb2 as message_pb
from stepwire.api.router.v1 import requirements_pb2 as requirements_pb
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.errors import FieldFault, StepwireError, field_invalid

# The name of no model in particular: the router chooses.
AUTO = "auto"

HEADER_PREFIX = "x-stepwire-"
PROJECT = f"{HEADER_PREFIX}project"
TASK_ID = f"{HEADER_PREFIX}task-id"
STEP_ID = f"{HEADER_PREFIX}step-id"
MIN_QUALITY = f"{HEADER_PREFIX}min-quality"
CACHE = f"{HEADER_PREFIX}cache"

# The fields of the router's own request that `stepwire` in a body may hold.
_OWN = frozenset({"documents", "requirements", "attribution", "cache"})
_EXPLAIN = "explain"
_ANY_OBJECT = {"type": "object"}
_ROLES = {
    "system": message_pb.ROLE_SYSTEM,
    "developer": message_pb.ROLE_SYSTEM,
    "user": message_pb.ROLE_USER,
    "assistant": message_pb.ROLE_ASSISTANT,
    "tool": message_pb.ROLE_TOOL,
}
_MODES = {
    "none": message_pb.TOOL_MODE_NONE,
    "auto": message_pb.TOOL_MODE_AUTO,
    "required": message_pb.TOOL_MODE_REQUIRED,
}
_DATA_URL = "data:"


@dataclass(frozen=True, slots=True)
class Chat:
    """What is asked.

    Attributes:
        request: The request.
        model: The model's name as it was asked for.
        stream: Whether the answer is to come in pieces.
        include_usage: Whether a stream ends with what was used.
        explain: Whether the decision is to be told.
        ignored: Fields of the body that had no part in it.
    """

    request: Request
    model: str
    stream: bool
    include_usage: bool
    explain: bool
    ignored: tuple[str, ...]


def read_chat(body: Any, headers: Mapping[str, str]) -> Chat:
    """Returns what is asked by a body and its headers.

    Raises:
        StepwireError: FIELD_INVALID, naming every faulty field by its name in the body.
    """
    try:
        given = ChatBody.model_validate(body)
    except ValidationError as error:
        raise faults.of_body(error) from error
    more = given.model_extra or {}
    wrong = [name for name, fine in UNSUPPORTED.items() if more.get(name) not in (None, *fine)]
    if wrong:
        raise faults.of_fields([FieldFault(name, "cannot be passed on") for name in wrong])
    own = dict(given.stepwire or {})
    explain = own.pop(_EXPLAIN, False)
    if not isinstance(explain, bool):
        raise field_invalid("stepwire.explain", "must be true or false")
    request = _parsed(own)
    _add_headers(request, headers)
    _add_body(request, given)
    try:
        decoded = decode_request(request)
    except StepwireError as error:
        raise faults.renamed(error) from error
    return Chat(
        request=_as_written(decoded, given),
        model=given.model,
        stream=bool(given.stream),
        include_usage=given.stream_options is not None and given.stream_options.include_usage,
        explain=explain,
        ignored=tuple(sorted(more.keys() - UNSUPPORTED.keys())),
    )


def _as_written(decoded: Request, given: ChatBody) -> Request:
    """Returns a request with the schemas as they stand in the body.

    The router's own API keeps no order of their names, by which models write.
    """
    tools = tuple(
        replace(tool, parameters=theirs.function.parameters)
        for tool, theirs in zip(decoded.tools, given.tools or (), strict=True)
    )
    schema, form = decoded.json_schema, given.response_format
    if schema is not None and form is not None and form.json_schema is not None:
        schema = replace(schema, schema=form.json_schema.schema_ or {})
    return replace(decoded, tools=tools, json_schema=schema)


def _parsed(own: dict[str, Any]) -> pb.GenerateRequest:
    """Returns the part of the request that is written as in the router's own API."""
    if unknown := sorted(own.keys() - _OWN):
        raise faults.of_fields([FieldFault(f"stepwire.{name}", "is unknown") for name in unknown])
    request = pb.GenerateRequest()
    if own:
        try:
            ParseDict(own, request)
        except ParseError as error:
            raise field_invalid("stepwire", str(error)) from error
    return request


def _add_headers(request: pb.GenerateRequest, headers: Mapping[str, str]) -> None:
    """Takes what headers say where the body says nothing."""
    for header, field in ((PROJECT, "project"), (TASK_ID, "task_id"), (STEP_ID, "step_id")):
        if (told := headers.get(header)) and not getattr(request.attribution, field):
            setattr(request.attribution, field, told)
    if (told := headers.get(MIN_QUALITY)) and not request.requirements.min_quality:
        try:
            request.requirements.min_quality = float(told)
        except ValueError as error:
            raise field_invalid(MIN_QUALITY, "must be a number from 0 to 1") from error
    if (told := headers.get(CACHE)) and not request.HasField("cache"):
        try:
            mode = requirements_pb.CacheMode.Value(f"CACHE_MODE_{told.upper()}")
        except ValueError as error:
            raise field_invalid(CACHE, "must be off, exact or semantic") from error
        request.cache.mode = mode


def _add_body(request: pb.GenerateRequest, given: ChatBody) -> None:
    if given.model != AUTO:
        request.requirements.model = given.model
    request.messages.extend(
        _message(each, f"messages[{index}]") for index, each in enumerate(given.messages)
    )
    request.max_output_tokens = _int32(
        "max_completion_tokens", given.max_completion_tokens or given.max_tokens or 0
    )
    if given.temperature is not None:
        request.temperature = given.temperature
    if given.top_p is not None:
        request.top_p = given.top_p
    if given.seed is not None:
        request.sampling_seed = _int64("seed", given.seed)
    if given.stop is not None:
        request.stop.extend([given.stop] if isinstance(given.stop, str) else given.stop)
    _add_tools(request, given)
    if given.response_format is not None:
        _add_form(request, given.response_format)


def _add_tools(request: pb.GenerateRequest, given: ChatBody) -> None:
    request.tools.extend(_tool(each, index) for index, each in enumerate(given.tools or ()))
    choice = given.tool_choice
    if isinstance(choice, NamedTool):
        request.tool_choice.tool = choice.function.name
    elif choice is not None:
        request.tool_choice.mode = _MODES[choice]


def _tool(given: Tool, index: int) -> message_pb.Tool:
    function = given.function
    tool = message_pb.Tool(name=function.name, description=function.description or "")
    if function.parameters is not None:
        path = f"tools[{index}].function.parameters"
        tool.parameters.CopyFrom(_struct(path, function.parameters))
    return tool


def _add_form(request: pb.GenerateRequest, form: ResponseFormat) -> None:
    if form.type == "text":
        return
    schema, name = _ANY_OBJECT, ""
    path = "response_format.json_schema"
    if form.type == "json_schema":
        if form.json_schema is None:
            raise field_invalid(path, "is required")
        schema, name = form.json_schema.schema_ or {}, form.json_schema.name
    request.json_schema.name = name
    request.json_schema.schema.CopyFrom(_struct(f"{path}.schema", schema))


def _message(given: Message, path: str) -> message_pb.Message:
    content = given.content
    parts = content if isinstance(content, list) else [TextPart(type="text", text=content or "")]
    return message_pb.Message(
        role=_ROLES[given.role],
        content="\n".join(part.text for part in parts if isinstance(part, TextPart)),
        images=_images(parts, path),
        tool_calls=[
            message_pb.ToolCall(
                id=call.id, name=call.function.name, arguments_json=call.function.arguments
            )
            for call in given.tool_calls or ()
        ],
        tool_call_id=given.tool_call_id or "",
    )


def _images(parts: Sequence[TextPart | ImagePart], path: str) -> list[message_pb.Image]:
    images = []
    for index, part in enumerate(parts):
        if isinstance(part, ImagePart):
            images.append(_image(part.image_url.url, f"{path}.content[{index}].image_url.url"))
    return images


def _image(url: str, path: str) -> message_pb.Image:
    if not url.startswith(_DATA_URL):
        return message_pb.Image(url=url)
    kind, _, encoded = url.removeprefix(_DATA_URL).partition(",")
    media_type, _, encoding = kind.partition(";")
    fault = field_invalid(path, "must be an address, or data in base64")
    if encoding != "base64":
        raise fault
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise fault from error
    return message_pb.Image(data=data, media_type=media_type)


def _struct(path: str, value: dict[str, Any]) -> Struct:
    try:
        return ParseDict(value, Struct())
    except ParseError as error:
        raise field_invalid(path, f"cannot be read: {error}") from error


def _int32(path: str, value: int) -> int:
    return _bounded(path, value, 2**31)


def _int64(path: str, value: int) -> int:
    return _bounded(path, value, 2**63)


def _bounded(path: str, value: int, limit: int) -> int:
    if not -limit <= value < limit:
        raise field_invalid(path, "is too large")
    return value
