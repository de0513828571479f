"""Log lines for people: our processes write JSON, Postgres and RabbitMQ write text."""

import json
import re
from typing import Any

# What every line has; the rest is what its event brings along.
_EVERY_LINE = frozenset({"time", "level", "logger", "message", "service", "exception", "stack"})
# A line of the combined log: a time, the part's name, and the part's own line.
_COMBINED = re.compile(r"(?P<time>\S+Z) (?P<part>[\w-]+) +(?P<line>\{.*\})")


def readable(line: str) -> str:
    """Returns a log line as text: time, level, message, and what else it says.

    A line that is not one of ours is given back as it is.
    """
    combined = _COMBINED.fullmatch(line)
    fields = _fields(combined["line"] if combined else line)
    if fields is None:
        return line
    begin = f"{combined['time']} {combined['part']:<10}" if combined else fields.get("time", "")
    return f"{begin} {fields['level']:<8} {_told(fields)}"


def brief(line: str) -> str:
    """Returns a log line as text without its time, for the words that a failure ends with."""
    fields = _fields(line)
    return line if fields is None else f"{fields['level']} {_told(fields)}"


def _fields(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and {"level", "message"} <= fields.keys() else None


def _told(fields: dict[str, Any]) -> str:
    extras = [f"{key}={_value(value)}" for key, value in fields.items() if key not in _EVERY_LINE]
    told = "  ".join([str(fields["message"]), *extras])
    return "\n".join([told, *(str(fields[key]) for key in ("exception", "stack") if key in fields)])


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
