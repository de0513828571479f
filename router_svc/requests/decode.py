"""Turns requests of the API into the domain's, and says what is wrong with them."""

from collections import Counter
from collections.abc import Iterator, Sequence

from router_svc.requests.records import Document, Message, Request, Role
from stepwire.api.router.v1 import message_pb2 as message_pb
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.errors import FieldFault, Reason, StepwireError

MAX_MESSAGES = 256
MAX_DOCUMENTS = 256
MAX_CONTENT_CHARACTERS = 1_000_000
MAX_TEMPERATURE = 2.0

_ROLES = {
    message_pb.ROLE_UNSPECIFIED: Role.USER,
    message_pb.ROLE_SYSTEM: Role.SYSTEM,
    message_pb.ROLE_USER: Role.USER,
    message_pb.ROLE_ASSISTANT: Role.ASSISTANT,
}


def decode_request(request: pb.GenerateRequest, *, path: str = "") -> Request:
    """Returns `request` as the domain sees it.

    Args:
        request: The request.
        path: What stands in front of its fields' names, e.g. `request.`.

    Raises:
        StepwireError: FIELD_INVALID, naming every faulty field.
    """
    faults = [
        FieldFault(path + field, description)
        for check in (_messages, _documents, _requirements, _sampling)
        for field, description in check(request)
    ]
    if faults:
        raise _invalid(faults)
    asked = request.requirements
    return Request(
        messages=tuple(Message(_ROLES[each.role], each.content) for each in request.messages),
        documents=tuple(Document(each.id, each.title, each.text) for each in request.documents),
        model=asked.model,
        min_quality=asked.min_quality,
        capabilities=tuple(asked.capabilities),
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature if request.HasField("temperature") else None,
    )


def decode_decide(request: pb.DecideRequest) -> Request:
    """Returns the request to decide on.

    Raises:
        StepwireError: FIELD_INVALID, naming every faulty field.
    """
    if not request.HasField("request"):
        raise _invalid([FieldFault("request", "is required")])
    return decode_request(request.request, path="request.")


def _invalid(faults: Sequence[FieldFault]) -> StepwireError:
    told = "; ".join(f"{fault.field}: {fault.description}" for fault in faults)
    return StepwireError(
        Reason.FIELD_INVALID, told, metadata={"field": faults[0].field}, faults=faults
    )


def _messages(request: pb.GenerateRequest) -> Iterator[tuple[str, str]]:
    count = len(request.messages)
    if not 1 <= count <= MAX_MESSAGES:
        yield "messages", f"must be 1 to {MAX_MESSAGES} messages, are {count}"
    for index, message in enumerate(request.messages):
        if message.role not in _ROLES:
            yield f"messages[{index}].role", f"is not a role: {message.role}"
        if len(message.content) > MAX_CONTENT_CHARACTERS:
            yield (
                f"messages[{index}].content",
                f"must be at most {MAX_CONTENT_CHARACTERS} characters, is {len(message.content)}",
            )
    if count:
        last = request.messages[-1]
        if _ROLES.get(last.role, Role.USER) is not Role.USER:
            yield f"messages[{count - 1}].role", "the last message must be from the user"
        if not last.content.strip():
            yield f"messages[{count - 1}].content", "the last message must not be blank"


def _documents(request: pb.GenerateRequest) -> Iterator[tuple[str, str]]:
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


def _requirements(request: pb.GenerateRequest) -> Iterator[tuple[str, str]]:
    asked = request.requirements
    # Written so that a NaN, which is on neither side of anything, is refused too.
    if not 0.0 <= asked.min_quality <= 1.0:
        yield "requirements.min_quality", f"must be from 0 to 1, is {asked.min_quality:g}"
    for index, capability in enumerate(asked.capabilities):
        if not capability:
            yield f"requirements.capabilities[{index}]", "must not be empty"


def _sampling(request: pb.GenerateRequest) -> Iterator[tuple[str, str]]:
    if request.max_output_tokens < 0:
        yield "max_output_tokens", f"must not be negative, is {request.max_output_tokens}"
    if request.HasField("temperature") and not 0.0 <= request.temperature <= MAX_TEMPERATURE:
        yield "temperature", f"must be from 0 to {MAX_TEMPERATURE:g}, is {request.temperature:g}"
