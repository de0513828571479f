"""JSON as the protocol wants it: 64-bit numbers are numbers, which in protobuf's they are not."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from stepwire.errors import field_invalid

_Json = Any

# JSON can write half of a character, which no text of ours can have.
_MAYBE_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")

_MESSAGE: Final = FieldDescriptor.TYPE_MESSAGE
_ENUM: Final = FieldDescriptor.TYPE_ENUM


def json_value(message: Message) -> dict[str, _Json]:
    """Returns a message with its proto field names.

    Fields that are not set are written, too, but for messages and the choices of a oneof.
    """
    value: dict[str, _Json] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        given = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            kind = field.message_type.fields_by_name["value"]
            value[field.name] = {str(key): _single(kind, given[key]) for key in sorted(given)}
        elif field.is_repeated:
            value[field.name] = [_single(field, each) for each in given]
        else:
            value[field.name] = _single(field, given)
    return value


def read_object(field: str, content: bytes, known: Mapping[str, type | tuple[type, ...]]) -> _Json:
    """Returns the JSON object of a body.

    Args:
        field: Where it stands, for errors.
        content: The JSON; empty means an object without fields.
        known: The types of the fields that it may have.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    try:
        value = json.loads(content) if content else {}
        if _MAYBE_HALF.search(content):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise field_invalid(field, "must have Unicode characters, whole ones") from None
    except (ValueError, RecursionError) as error:
        raise field_invalid(field, f"must be JSON: {error}") from error
    return checked_object(field, value, known)


def checked_object(
    field: str, value: _Json, known: Mapping[str, type | tuple[type, ...]]
) -> dict[str, _Json]:
    """Returns a JSON value that is an object, and has no fields but the known ones.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if not isinstance(value, dict):
        raise field_invalid(field, "must be a JSON object")
    for name, each in value.items():
        if name not in known:
            raise field_invalid(f"{field}.{name}", f"is not known, only {', '.join(known)}")
        if not isinstance(each, known[name]):
            raise field_invalid(f"{field}.{name}", "is of the wrong type")
    return value


def _single(field: Any, value: _Json) -> _Json:
    if field.type == _MESSAGE:
        return json_value(value)
    if field.type == _ENUM:
        return field.enum_type.values_by_number[value].name
    return value
