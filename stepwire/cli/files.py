"""Reads what users write in YAML or JSON."""

import difflib
import re
import sys
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.api.executor.v1.graph_pb2 import Graph
from stepwire.cli.exits import CommandError

STANDARD_INPUT = "-"

_UNKNOWN_FIELD = re.compile(
    r'has no field named "(?P<name>[^"]*)" at "(?P<place>[^"]*)"\.\s*'
    r"Available Fields\(except extensions\): (?P<known>.*)",
    re.DOTALL,
)
_QUOTED = re.compile(r"'(\w+)'")
_CAPITAL = re.compile(r"([A-Z])")

AnyMessage = TypeVar("AnyMessage", bound=Message)


def read_text(file: str) -> str:
    """Reads a file, or standard input for `-`.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        if file == STANDARD_INPUT:
            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from None


def source_of(file: str) -> str:
    """Names a file in messages."""
    return "standard input" if file == STANDARD_INPUT else file


def load_value(text: str, source: str) -> Any:
    """Reads a value from YAML or JSON.

    Args:
        text: The text.
        source: Where it is from, for error messages.

    Raises:
        CommandError: It is neither.
    """
    try:
        # Every JSON text is YAML as well.
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CommandError(f"{source} is neither YAML nor JSON: {error}") from None


def load_object(text: str, source: str, *, keys: Collection[str]) -> dict[str, Any]:
    """Reads an object that has no keys but these.

    Raises:
        CommandError: It is no such object; the message says where.
    """
    data = load_value(text, source)
    if not isinstance(data, dict):
        raise CommandError(f"{source}: expected an object with some of the keys {sorted(keys)}")
    if unknown := sorted(map(str, set(data) - set(keys))):
        raise CommandError(f"{source}: unknown keys {', '.join(unknown)}; known: {sorted(keys)}")
    return data


def to_message(data: Mapping[str, Any], message: AnyMessage, *, source: str) -> AnyMessage:
    """Writes an object into a message, by the rules of the API's JSON, and returns it.

    Raises:
        CommandError: It does not fit; the message says where.
    """
    plain = {key: _plain(value, f"{source}: {key}") for key, value in data.items()}
    try:
        return ParseDict(plain, message)
    except ParseError as error:
        # The message's name is ours; paths in the file begin below it.
        where = str(error).replace(f"{message.DESCRIPTOR.name}.", "")
        raise CommandError(f"{source}: {_unknown_field(where) or where}") from None


def graph_of(data: Mapping[str, Any], *, source: str) -> Graph:
    """Reads the graph of an object that has one.

    Raises:
        CommandError: There is none, or it is no graph; the message says where.
    """
    if not isinstance(data.get("graph"), dict):
        raise CommandError(f"{source}: expected an object with the key `graph`, itself an object")
    return to_message({"graph": data["graph"]}, CreateTaskRequest(), source=source).graph


def texts_of(data: Any, *, source: str) -> dict[str, str]:
    """Reads an object of texts; numbers and truth values are written as texts.

    Raises:
        CommandError: It is not an object.
    """
    if not isinstance(data or {}, dict):
        raise CommandError(f"{source}: expected an object of texts")
    return {str(key): str(value) for key, value in (data or {}).items()}


def _unknown_field(complaint: str) -> str:
    """Says what protobuf says of a field that is none, in the words of who wrote it; else ""."""
    found = _UNKNOWN_FIELD.search(complaint)
    if found is None:
        return ""
    known = [_CAPITAL.sub(r"_\1", name).lower() for name in _QUOTED.findall(found["known"])]
    near = difflib.get_close_matches(found["name"], known, n=1)
    told = f"is {near[0]} meant?" if near else f"known: {', '.join(sorted(known))}"
    return f"{found['place']}: there is no field named {found['name']}; {told}"


def _plain(value: Any, where: str) -> Any:
    """Turns what YAML reads as a time back into a text."""
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise CommandError(f"{where}: {value.isoformat()} has no time zone, such as Z")
    return value.isoformat()
