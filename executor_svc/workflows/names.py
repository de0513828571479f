"""Which versions workflows may have, and the errors that speak of them. Pure."""

import re

from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.names import SHOWN_CHARACTERS

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def check_version(version: str, *, field: str = "version") -> str:
    """Return a version that keeps the rules.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`.
    """
    if not VERSION.fullmatch(version):
        raise field_invalid(
            field,
            f"{version[:SHOWN_CHARACTERS]!r} must be a letter or a digit followed by at most 63"
            " letters, digits or any of . _ + -",
        )
    return version


def not_found(name: str, version: str) -> StepwireError:
    """Return the error for a workflow, or a version of it, that is not there."""
    which = f"version {version!r} of workflow {name!r}" if version else f"workflow {name!r}"
    return _error(Reason.WORKFLOW_NOT_FOUND, f"there is no {which}", name, version)


def exists(name: str, version: str) -> StepwireError:
    """Return the error for a used version that would change."""
    return _error(
        Reason.WORKFLOW_VERSION_EXISTS,
        f"version {version!r} of workflow {name!r} was used and cannot get another graph or"
        " other defaults; register a new version",
        name,
        version,
    )


def in_use(name: str, version: str) -> StepwireError:
    """Return the error for a used version that would be deleted."""
    return _error(
        Reason.WORKFLOW_VERSION_IN_USE,
        f"version {version!r} of workflow {name!r} was used and cannot be deleted; deprecate it",
        name,
        version,
    )


def deprecated(name: str, version: str) -> StepwireError:
    """Return the error for a deprecated version that a new task names."""
    return _error(
        Reason.WORKFLOW_VERSION_DEPRECATED,
        f"version {version!r} of workflow {name!r} is deprecated and takes no new tasks",
        name,
        version,
    )


def _error(reason: Reason, message: str, name: str, version: str) -> StepwireError:
    return StepwireError(reason, message, metadata={"workflow": name, "version": version})
