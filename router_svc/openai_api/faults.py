"""Names the faulty parts of a body, by the names that OpenAI's clients know."""

import re
from collections.abc import Sequence

from pydantic import ValidationError

from stepwire.errors import FieldFault, Reason, StepwireError

# What the router's own API calls by another name, or has elsewhere.
_NAMES = (
    ("requirements.model", "model"),
    ("max_output_tokens", "max_completion_tokens"),
    ("sampling_seed", "seed"),
    ("json_schema.name", "response_format.json_schema.name"),
    ("json_schema.schema", "response_format.json_schema.schema"),
    ("tool_choice.tool", "tool_choice.function.name"),
    ("tool_choice.mode", "tool_choice"),
    ("documents", "stepwire.documents"),
    ("requirements", "stepwire.requirements"),
    ("attribution", "stepwire.attribution"),
    ("cache", "stepwire.cache"),
    ("texts", "input"),
)
_TOOL = re.compile(r"tools\[(\d+)\]\.(?!function)")


def of_body(error: ValidationError) -> StepwireError:
    """Returns FIELD_INVALID for what a body lacks, or has of the wrong kind."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return of_fields([FieldFault(_path(each["loc"]), each["msg"]) for each in found])


def _path(location: Sequence[int | str]) -> str:
    path = ""
    for place, part in enumerate(location):
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _is_kind(location[:place]):
            path += f".{part}" if path else part
    return path


def _is_kind(before: Sequence[int | str]) -> bool:
    """Returns whether what comes next says which of several kinds a value is, and no field."""
    if not before:
        return False
    return before[-1] in ("content", "tool_choice") or before[-2:-1] == ("parts",)


def of_fields(faults: Sequence[FieldFault]) -> StepwireError:
    """Returns FIELD_INVALID for these faults."""
    told = "; ".join(f"{fault.field}: {fault.description}" for fault in faults)
    return StepwireError(
        Reason.FIELD_INVALID, told, metadata={"field": faults[0].field}, faults=faults
    )


def renamed(error: StepwireError) -> StepwireError:
    """Returns an error of the router's own API as one of this API."""
    if error.reason is not Reason.FIELD_INVALID or not error.faults:
        return error
    return of_fields([FieldFault(_name(each.field), each.description) for each in error.faults])


def _name(field: str) -> str:
    for ours, theirs in _NAMES:
        if field == ours or field.startswith((f"{ours}.", f"{ours}[")):
            return theirs + field[len(ours) :]
    return _TOOL.sub(r"tools[\1].function.", field)
