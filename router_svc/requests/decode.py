"""Turns requests of the API into the domain's; `check` says what is wrong with them."""

from router_svc.catalogue.kinds import Tier
from router_svc.requests.check import ROLES, faults_of
from router_svc.requests.objects import object_of
from router_svc.requests.records import (
    Attribution,
    CacheControl,
    CacheMode,
    Document,
    Image,
    JsonSchema,
    Message,
    Request,
    Tool,
    ToolCall,
    ToolMode,
)
from stepwire.api.router.v1 import message_pb2 as message_pb
from stepwire.api.router.v1 import requirements_pb2 as requirements_pb
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.errors import FieldFault, Reason, StepwireError

_MODES = {
    message_pb.TOOL_MODE_UNSPECIFIED: ToolMode.AUTO,
    message_pb.TOOL_MODE_AUTO: ToolMode.AUTO,
    message_pb.TOOL_MODE_NONE: ToolMode.NONE,
    message_pb.TOOL_MODE_REQUIRED: ToolMode.REQUIRED,
}
_TIERS = {
    requirements_pb.TIER_UNSPECIFIED: None,
    requirements_pb.TIER_SMALL: Tier.SMALL,
    requirements_pb.TIER_BALANCED: Tier.BALANCED,
    requirements_pb.TIER_LARGE: Tier.LARGE,
}
_CACHE_MODES = {
    requirements_pb.CACHE_MODE_UNSPECIFIED: CacheMode.OFF,
    requirements_pb.CACHE_MODE_OFF: CacheMode.OFF,
    requirements_pb.CACHE_MODE_EXACT: CacheMode.EXACT,
    requirements_pb.CACHE_MODE_SEMANTIC: CacheMode.SEMANTIC,
}


def decode_request(request: pb.GenerateRequest, *, path: str = "") -> Request:
    """Returns `request` as the domain sees it.

    Args:
        request: The request.
        path: What stands in front of its fields' names, e.g. `request.`.

    Raises:
        StepwireError: FIELD_INVALID, naming every faulty field.
    """
    if faults := [FieldFault(path + field, told) for field, told in faults_of(request)]:
        raise _invalid(faults)
    asked = request.requirements
    choice = request.tool_choice
    return Request(
        messages=tuple(map(_message, request.messages)),
        documents=tuple(Document(each.id, each.title, each.text) for each in request.documents),
        model=asked.model,
        min_quality=asked.min_quality,
        capabilities=tuple(asked.capabilities),
        max_cost_micro_usd=asked.max_cost_micro_usd,
        language=asked.language,
        min_tier=_TIERS[asked.min_tier],
        seed=asked.seed,
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature if request.HasField("temperature") else None,
        top_p=request.top_p if request.HasField("top_p") else None,
        stop=tuple(request.stop),
        sampling_seed=request.sampling_seed if request.HasField("sampling_seed") else None,
        tools=tuple(map(_tool, request.tools)),
        tool_choice=_MODES[choice.mode],
        required_tool=choice.tool,
        json_schema=_schema(request),
        attribution=_attribution(request.attribution),
        cache=_cache(request.cache),
    )


def decode_held(request: pb.DecideRequest | pb.StreamGenerateRequest) -> Request:
    """Returns the request that another one holds.

    Raises:
        StepwireError: FIELD_INVALID, naming every faulty field.
    """
    if not request.HasField("request"):
        raise _invalid([FieldFault("request", "is required")])
    return decode_request(request.request, path="request.")


def _invalid(faults: list[FieldFault]) -> StepwireError:
    told = "; ".join(f"{fault.field}: {fault.description}" for fault in faults)
    return StepwireError(
        Reason.FIELD_INVALID, told, metadata={"field": faults[0].field}, faults=faults
    )


def _message(message: message_pb.Message) -> Message:
    role = ROLES[message.role]
    # Most messages are text alone.
    if not (message.images or message.tool_calls or message.tool_call_id):
        return Message(role, message.content)
    return Message(
        role,
        message.content,
        images=tuple(
            Image(url=each.url, data=each.data, media_type=each.media_type or "image/png")
            for each in message.images
        ),
        tool_calls=tuple(
            ToolCall(each.id, each.name, each.arguments_json) for each in message.tool_calls
        ),
        tool_call_id=message.tool_call_id,
    )


def _tool(tool: message_pb.Tool) -> Tool:
    parameters = None
    if tool.HasField("parameters"):
        parameters = object_of(tool.parameters, field="parameters")
    return Tool(tool.name, tool.description, parameters)


def _schema(request: pb.GenerateRequest) -> JsonSchema | None:
    if not request.HasField("json_schema"):
        return None
    given = request.json_schema
    return JsonSchema(object_of(given.schema, field="schema"), given.name or "answer")


def _attribution(given: requirements_pb.Attribution) -> Attribution:
    return Attribution(given.project, given.task_id, given.step_id)


def _cache(given: requirements_pb.CacheControl) -> CacheControl:
    return CacheControl(
        _CACHE_MODES[given.mode],
        given.max_age.ToTimedelta().total_seconds(),
        tuple(given.tags),
        given.scope,
    )
