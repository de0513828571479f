"""The JSON that chat completions are asked for with."""

import base64
from typing import Any

from router_svc.catalogue.models import OpenAIProvider
from router_svc.providers.sources import render_sources
from router_svc.requests.records import Message, Request, Role, ToolMode

# A schema that asks for no more than JSON.
ANY_OBJECT = {"type": "object"}


def chat_body(
    request: Request, provider: OpenAIProvider, *, max_output_tokens: int, stream: bool
) -> dict[str, Any]:
    """Returns the body of a chat completion's request."""
    body: dict[str, Any] = {
        "model": provider.model,
        "messages": _messages(request),
        provider.token_limit_field: max_output_tokens,
    }
    optional = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "seed": request.sampling_seed,
        "tools": _tools(request),
        "tool_choice": _tool_choice(request),
        "response_format": _response_format(request),
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _messages(request: Request) -> list[dict[str, Any]]:
    """Returns the conversation, the sources in front of it."""
    messages = [_message(each) for each in request.messages]
    if request.documents:
        sources = {"role": Role.SYSTEM.value, "content": render_sources(request.documents)}
        messages.insert(0, sources)
    return messages


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.images:
        images = [
            {"type": "image_url", "image_url": {"url": image.url or _data_url(image)}}
            for image in message.images
        ]
        told["content"] = [{"type": "text", "text": message.content}, *images]
    if message.tool_calls:
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in message.tool_calls
        ]
        told["content"] = message.content or None
    if message.tool_call_id:
        told["tool_call_id"] = message.tool_call_id
    return told


def _data_url(image: Any) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def _tools(request: Request) -> list[dict[str, Any]] | None:
    if not request.tools:
        return None
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "parameters": dict(tool.parameters or {"type": "object", "properties": {}}),
            },
        }
        for tool in request.tools
    ]


def _tool_choice(request: Request) -> Any:
    if request.required_tool:
        return {"type": "function", "function": {"name": request.required_tool}}
    if not request.tools or request.tool_choice is ToolMode.AUTO:
        return None
    return request.tool_choice.value


def _response_format(request: Request) -> Any:
    wanted = request.json_schema
    if wanted is None:
        return None
    schema = dict(wanted.schema)
    if schema == ANY_OBJECT:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": wanted.name, "schema": schema, "strict": _is_strict(schema)},
    }


def _is_strict(schema: Any) -> bool:
    """Returns whether an endpoint may be asked to write by the grammar of `schema`.

    OpenAI refuses that for objects with properties that are not required, or not named.
    What an endpoint does not promise, the router still checks.
    """
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        named, required = schema.get("properties", {}), schema.get("required", [])
        # A constant, or a list of properties, may look like a schema, and not be one.
        if not isinstance(named, dict) or not isinstance(required, list):
            return False
        all_required = all(name in required for name in named) and len(required) == len(named)
        if schema.get("additionalProperties") is not False or not all_required:
            return False
    return all(map(_is_strict, schema.values()))
