"""Says what is wrong with a request of the API: fields out of their limits."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from router_svc.requests.objects import object_of
from router_svc.requests.records import Role
from router_svc.requests.schema import schema_fault
from stepwire.api.router.v1 import message_pb2 as message_pb
from stepwire.api.router.v1 import requirements_pb2 as requirements_pb
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.errors import StepwireError

MAX_MESSAGES = 256
MAX_DOCUMENTS = 256
MAX_CONTENT_CHARACTERS = 1_000_000
MAX_TEMPERATURE = 2.0
MAX_IMAGES = 16
MAX_IMAGE_BYTES = 8 * 1024 * 1024
MAX_TOOLS = 128
MAX_STOPS = 4
MAX_PROJECT_CHARACTERS = 100
MAX_TASK_ID_CHARACTERS = 100
# Steps that were added by steps have long ids.
MAX_STEP_ID_CHARACTERS = 1_000
MAX_TAGS = 16
MAX_TAG_CHARACTERS = 100
MAX_SCOPE_CHARACTERS = 200
# Of answers that are accepted; they are kept for less.
MAX_AGE = timedelta(days=365)

ROLES = {
    message_pb.ROLE_UNSPECIFIED: Role.USER,
    message_pb.ROLE_SYSTEM: Role.SYSTEM,
    message_pb.ROLE_USER: Role.USER,
    message_pb.ROLE_ASSISTANT: Role.ASSISTANT,
    message_pb.ROLE_TOOL: Role.TOOL,
}
# Asked for anew, each would be put together anew.
_TIERS = frozenset(requirements_pb.Tier.values())
_CACHE_MODES = frozenset(requirements_pb.CacheMode.values())
_TOOL_MODES = frozenset(message_pb.ToolMode.values())
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LANGUAGE = re.compile(r"([a-z]{2,3})?")

Faults = Iterator[tuple[str, str]]


def faults_of(request: pb.GenerateRequest) -> Faults:
    """Yields every faulty field's path, and what is wrong with it."""
    for check in (_messages, _last, _documents, _requirements, _sampling, _tools, _schema, _rest):
        yield from check(request)


def _messages(request: pb.GenerateRequest) -> Faults:
    count = len(request.messages)
    if not 1 <= count <= MAX_MESSAGES:
        yield "messages", f"must be 1 to {MAX_MESSAGES} messages, are {count}"
    for index, message in enumerate(request.messages):
        path = f"messages[{index}]"
        if message.role not in ROLES:
            yield f"{path}.role", f"is not a role: {message.role}"
        if len(message.content) > MAX_CONTENT_CHARACTERS:
            yield (
                f"{path}.content",
                f"must be at most {MAX_CONTENT_CHARACTERS} characters, is {len(message.content)}",
            )
        if message.images:
            yield from _images(message, path)
        is_tool = message.role == message_pb.ROLE_TOOL
        if is_tool and not message.tool_call_id:
            yield f"{path}.tool_call_id", "is required in the message of a tool"
        if message.tool_call_id and not is_tool:
            yield f"{path}.tool_call_id", "belongs to the message of a tool"
        if message.tool_calls and message.role != message_pb.ROLE_ASSISTANT:
            yield f"{path}.tool_calls", "belong to the message of a model"


def _images(message: message_pb.Message, path: str) -> Faults:
    if len(message.images) > MAX_IMAGES:
        yield f"{path}.images", f"must be at most {MAX_IMAGES}, are {len(message.images)}"
    for index, image in enumerate(message.images):
        if image.WhichOneof("source") is None:
            yield f"{path}.images[{index}]", "must have a source"
        if image.url and not image.url.startswith("https://"):
            yield f"{path}.images[{index}].url", "must begin with https://"
        if len(image.data) > MAX_IMAGE_BYTES:
            yield (
                f"{path}.images[{index}].data",
                f"must be at most {MAX_IMAGE_BYTES} bytes, is {len(image.data)}",
            )


def _last(request: pb.GenerateRequest) -> Faults:
    if not request.messages:
        return
    path = f"messages[{len(request.messages) - 1}]"
    last = request.messages[-1]
    role = ROLES.get(last.role, Role.USER)
    if role not in (Role.USER, Role.TOOL):
        yield f"{path}.role", "the last message must be from the user or a tool"
    if role is not Role.TOOL and not last.content.strip() and not last.images:
        yield f"{path}.content", "the last message must not be blank"


def _documents(request: pb.GenerateRequest) -> Faults:
    if len(request.documents) > MAX_DOCUMENTS:
        yield "documents", f"must be at most {MAX_DOCUMENTS}, are {len(request.documents)}"
    times: Counter[str] = Counter()
    for index, document in enumerate(request.documents):
        times[document.id] += 1
        if not document.id.strip():
            yield f"documents[{index}].id", "is required"
        elif times[document.id] > 1:
            yield f"documents[{index}].id", "must be unique, is the id of an earlier document"
        if not document.text.strip():
            yield f"documents[{index}].text", "is required"


def _requirements(request: pb.GenerateRequest) -> Faults:
    asked = request.requirements
    # Written so that a NaN, which is on neither side of anything, is refused too.
    if not 0.0 <= asked.min_quality <= 1.0:
        yield "requirements.min_quality", f"must be from 0 to 1, is {asked.min_quality:g}"
    for index, capability in enumerate(asked.capabilities):
        if not capability:
            yield f"requirements.capabilities[{index}]", "must not be empty"
    if asked.max_cost_micro_usd < 0:
        yield "requirements.max_cost_micro_usd", "must not be negative"
    if not _LANGUAGE.fullmatch(asked.language):
        yield "requirements.language", "must be an ISO 639 code of 2 or 3 small letters"
    if asked.min_tier not in _TIERS:
        yield "requirements.min_tier", f"is not a tier: {asked.min_tier}"


def _sampling(request: pb.GenerateRequest) -> Faults:
    if request.max_output_tokens < 0:
        yield "max_output_tokens", f"must not be negative, is {request.max_output_tokens}"
    if request.HasField("temperature") and not 0.0 <= request.temperature <= MAX_TEMPERATURE:
        yield "temperature", f"must be from 0 to {MAX_TEMPERATURE:g}, is {request.temperature:g}"
    if request.HasField("top_p") and not 0.0 < request.top_p <= 1.0:
        yield "top_p", f"must be above 0 and at most 1, is {request.top_p:g}"
    if len(request.stop) > MAX_STOPS:
        yield "stop", f"must be at most {MAX_STOPS}, are {len(request.stop)}"
    if not all(request.stop):
        yield "stop", "must not be empty texts"


def _tools(request: pb.GenerateRequest) -> Faults:
    if len(request.tools) > MAX_TOOLS:
        yield "tools", f"must be at most {MAX_TOOLS}, are {len(request.tools)}"
    names: set[str] = set()
    for index, tool in enumerate(request.tools):
        if not _NAME.fullmatch(tool.name):
            yield f"tools[{index}].name", "must be 1 to 64 letters, digits, _ and -"
        elif tool.name in names:
            yield f"tools[{index}].name", "must be unique, is the name of an earlier tool"
        names.add(tool.name)
        if tool.HasField("parameters"):
            yield from _object(tool.parameters, f"tools[{index}].parameters")
    choice = request.tool_choice
    if choice.mode not in _TOOL_MODES:
        yield "tool_choice.mode", f"is not a mode: {choice.mode}"
    if choice.mode == message_pb.TOOL_MODE_REQUIRED and not request.tools:
        yield "tool_choice.mode", "asks for a tool where there are none"
    if choice.tool and choice.tool not in names:
        yield "tool_choice.tool", "is not the name of a tool of the request"


def _object(
    struct: Struct, path: str, fault_of: Callable[[Mapping[str, Any]], str] = lambda _: ""
) -> Faults:
    try:
        fault = fault_of(object_of(struct, field=path))
    except StepwireError as error:
        fault = error.faults[0].description
    if fault:
        yield path, fault


def _schema(request: pb.GenerateRequest) -> Faults:
    if not request.HasField("json_schema"):
        return
    given = request.json_schema
    if given.name and not _NAME.fullmatch(given.name):
        yield "json_schema.name", "must be 1 to 64 letters, digits, _ and -"
    if not given.HasField("schema") or not given.schema.fields:
        yield "json_schema.schema", "is required"
    else:
        yield from _object(given.schema, "json_schema.schema", schema_fault)


def _rest(request: pb.GenerateRequest) -> Faults:
    by = request.attribution
    for name, text, most in (
        ("project", by.project, MAX_PROJECT_CHARACTERS),
        ("task_id", by.task_id, MAX_TASK_ID_CHARACTERS),
        ("step_id", by.step_id, MAX_STEP_ID_CHARACTERS),
    ):
        if len(text) > most or "\0" in text:
            yield f"attribution.{name}", f"must be at most {most} characters, without U+0000"
    cache = request.cache
    if cache.mode not in _CACHE_MODES:
        yield "cache.mode", f"is not a mode: {cache.mode}"
    if cache.HasField("max_age") and not _is_positive(cache.max_age):
        yield "cache.max_age", f"must be above 0 and at most {MAX_AGE.days} days"
    if len(cache.tags) > MAX_TAGS or not all(
        0 < len(tag) <= MAX_TAG_CHARACTERS and "\0" not in tag for tag in cache.tags
    ):
        told = f"at most {MAX_TAGS} names of 1 to {MAX_TAG_CHARACTERS} characters, without U+0000"
        yield "cache.tags", f"must be {told}"
    if len(cache.scope) > MAX_SCOPE_CHARACTERS:
        yield "cache.scope", f"must be at most {MAX_SCOPE_CHARACTERS} characters"


def _is_positive(age: Duration) -> bool:
    return 0 < age.seconds + age.nanos / 1e9 <= MAX_AGE.total_seconds()
