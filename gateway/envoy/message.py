"""From the typed model to plain values, and from these to YAML."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import Enum
from typing import Any, ClassVar

import yaml

TYPE_URL_PREFIX = "type.googleapis.com/"


@dataclass(frozen=True, kw_only=True)
class Message:
    """Base of every class of the model.

    A field that is None is left out; an empty message is kept, since to Envoy it
    differs from none.

    Attributes:
        TYPE: Full name of the Envoy message, for those that travel inside a
            `google.protobuf.Any` and must therefore say what they are.
    """

    TYPE: ClassVar[str] = ""


def plain(value: object) -> Any:
    """Turns a value of the model into dicts, lists and scalars.

    Raises:
        TypeError: The value holds something that Envoy has no notation for.
    """
    match value:
        case Message():
            typed = {"@type": TYPE_URL_PREFIX + value.TYPE} if value.TYPE else {}
            held = {field.name: getattr(value, field.name) for field in fields(value)}
            return typed | plain(held)
        case Mapping():
            return {key: plain(item) for key, item in value.items() if not _left_out(item)}
        case tuple() | list():
            return [plain(item) for item in value]
        case timedelta():
            return _duration(value)
        case Enum():
            return value.name
        case str() | bool() | int() | float():
            return value
        case _:
            raise TypeError(f"no Envoy notation for {type(value).__name__}")


def to_yaml(message: Message) -> str:
    """Writes a message as YAML, in the order of the model's fields."""
    return yaml.safe_dump(plain(message), sort_keys=False, width=100, allow_unicode=True)


def _left_out(value: object) -> bool:
    return value is None or value == ()


def _duration(value: timedelta) -> str:
    # The JSON form of google.protobuf.Duration: decimal seconds.
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
