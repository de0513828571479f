"""Reads settings from the environment, and tells what is wrong there by the variables' names."""

import difflib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

_logger = logging.getLogger(__name__)

AnySettings = TypeVar("AnySettings", bound=BaseSettings)

# Below this a name is another program's rather than a setting's, misspelt.
_ALIKE = 0.85


def read_settings(kind: type[AnySettings]) -> AnySettings:
    """Reads a process's settings; to be called once, in `__main__`.

    Values are not told: some are secrets.

    Raises:
        SystemExit: With code 1, if one is wrong; the log names its variable.
    """
    try:
        return kind()
    except ValidationError as error:
        faults = [f"{_variable(kind, fault['loc'])}: {fault['msg']}" for fault in error.errors()]
    except SettingsError as error:
        # Its text is the only place where it says which field is no JSON.
        named = [field for field in kind.model_fields if f'"{field}"' in str(error)]
        faults = [f"{_variable(kind, (field,))}: is not JSON" for field in named] or [str(error)]
    # Here since it is slow to import, and processes import it anyway once they know their name.
    from stepwire.telemetry.logs import setup_logging  # noqa: PLC0415

    setup_logging(_prefix(kind).removeprefix("STEPWIRE_").strip("_").lower(), "INFO")
    _logger.critical("cannot start: %s", "; ".join(faults))
    sys.exit(1)


def misspelt(
    kind: type[BaseSettings], environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[str, str]]:
    """Gives variables that are no settings, each with the setting that was probably meant.

    Others that begin alike are passed over: Kubernetes sets `STEPWIRE_ROUTER_SERVICE_HOST`,
    and catalogues name variables of their own.
    """
    prefix = _prefix(kind)
    fields = set(kind.model_fields)
    for name in environment:
        field = name.removeprefix(prefix).lower()
        if not name.startswith(prefix) or field in fields:
            continue
        for near in difflib.get_close_matches(field, fields, n=1, cutoff=_ALIKE):
            yield name, prefix + near.upper()


def _prefix(kind: type[BaseSettings]) -> str:
    return kind.model_config.get("env_prefix", "")


def _variable(kind: type[BaseSettings], place: tuple[int | str, ...]) -> str:
    """Returns the variable of a field; of one part of it, with the path to the part."""
    if not place:
        return f"{_prefix(kind)}*"
    field, *path = map(str, place)
    return ".".join([_prefix(kind) + field.upper(), *path])
