"""Steps that generate text."""

from typing import Any

import orjson

from executor_svc.steps.answer import answer
from executor_svc.steps.kind import StepCall, input_error
from stepwire.api.router.v1.message_pb2 import Role
from stepwire.api.router.v1.router_service_pb2 import GenerateRequest
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceAsyncStub

INPUT_FIELDS = frozenset({"prompt", "messages", "documents"})
DOCUMENT_FIELDS = frozenset({"id", "title", "text"})
ROLES = {"system": Role.ROLE_SYSTEM, "user": Role.ROLE_USER, "assistant": Role.ROLE_ASSISTANT}


class ModelKind:
    """See `ModelStep` in graph.proto."""

    def __init__(self, router: RouterServiceAsyncStub) -> None:
        self._router = router

    async def run(self, call: StepCall) -> Any:
        response = await answer(self._router.Generate(_request(call)), service="router")
        output = {
            "text": response.text,
            "model": response.model,
            "citations": [
                {"document_id": citation.document_id, "quote": citation.quote}
                for citation in response.citations
            ],
            "usage": {
                "input_tokens": response.usage.input_tokens,
                "output_tokens": response.usage.output_tokens,
                "cost_micro_usd": response.usage.cost_micro_usd,
            },
        }
        if call.spec.HasField("json_schema"):
            output["json"] = _json(response.text)
        return output


def _json(text: str) -> Any:
    """Returns the value of an answer; the router sees to the schema of all that is not cut."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _request(call: StepCall) -> GenerateRequest:
    given = {"prompt": call.value} if isinstance(call.value, str) else call.value
    if not isinstance(given, dict):
        raise input_error("must be a prompt, or an object with prompt or messages")
    if unknown := given.keys() - INPUT_FIELDS:
        raise input_error(f"has the unknown field {min(unknown)!r}")
    if ("prompt" in given) == ("messages" in given):
        raise input_error("must have either prompt or messages")
    spec = call.spec
    request = GenerateRequest(max_output_tokens=spec.max_output_tokens)
    request.requirements.model = spec.model
    # Budgets and accounts follow it.
    request.attribution.task_id = call.context.task_id
    request.attribution.step_id = call.context.step_id
    request.attribution.project = spec.project
    request.requirements.min_quality = spec.min_quality
    if spec.HasField("cache"):
        request.cache.CopyFrom(spec.cache)
    if spec.HasField("json_schema"):
        request.json_schema.CopyFrom(spec.json_schema)
    if spec.HasField("temperature"):
        request.temperature = spec.temperature
    messages = given.get("messages") or [{"role": "user", "content": given.get("prompt")}]
    _add_messages(request, messages)
    _add_documents(request, given.get("documents") or [])
    return request


def _add_messages(request: GenerateRequest, messages: list[Any]) -> None:
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise input_error(f"messages[{place}] must have a text as content")
        role = ROLES.get(message.get("role", "user"))
        if role is None:
            raise input_error(f"messages[{place}].role must be one of {', '.join(ROLES)}")
        request.messages.add(role=role, content=message["content"])


def _add_documents(request: GenerateRequest, documents: list[Any]) -> None:
    for place, document in enumerate(documents):
        if not isinstance(document, dict) or not all(
            isinstance(value, str) for value in document.values()
        ):
            raise input_error(f"documents[{place}] must be an object of texts")
        if unknown := document.keys() - DOCUMENT_FIELDS:
            raise input_error(f"documents[{place}] has the unknown field {min(unknown)!r}")
        request.documents.add(**document)
