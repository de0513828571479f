"""How commands end: exit codes, and errors in words."""

import asyncio
from collections.abc import Coroutine, Iterator
from enum import IntEnum
from typing import Any, TypeVar

import grpc
import typer

from stepwire.api_keys import VARIABLE
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import code_of

Result = TypeVar("Result")


class ExitCode(IntEnum):
    """What a command's exit code means."""

    OK = 0
    FAILED = 1
    """The call worked, but the task failed, or the demo did not reach its aim."""
    REFUSED = 2
    """The command line or the request is wrong."""
    NOT_FOUND = 3
    """The task, model or collection does not exist."""
    UNAVAILABLE = 4
    """Stepwire does not answer, or not in time: try again."""
    CONFLICT = 5
    """The state of things does not allow it."""
    INTERNAL = 70
    """An error that was not expected."""
    INTERRUPTED = 130
    """The user pressed Ctrl-C."""


_ABOUT_THE_KEY = {Reason.KEY_MISSING, Reason.KEY_INVALID, Reason.KEY_EXPIRED, Reason.KEY_REVOKED}
_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.REFUSED,
    grpc.StatusCode.UNAUTHENTICATED: ExitCode.REFUSED,
    grpc.StatusCode.PERMISSION_DENIED: ExitCode.REFUSED,
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExitCode.UNAVAILABLE,
    grpc.StatusCode.FAILED_PRECONDITION: ExitCode.CONFLICT,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.CONFLICT,
    grpc.StatusCode.ABORTED: ExitCode.CONFLICT,
}


class CommandError(Exception):
    """A command cannot go on, for a reason that its user can understand."""

    def __init__(self, message: str, code: ExitCode = ExitCode.REFUSED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def run(command: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command's coroutine; an expected error is told and ends the program.

    Raises:
        typer.Exit: After an error, with the code that `ExitCode` says.
    """
    try:
        return asyncio.run(command)
    except* (StepwireError, CommandError) as group:
        errors = list(_leaves(group))
    except* KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    # Errors of calls made side by side are mostly one cause seen many times.
    for line in _describe(errors[0]):
        typer.echo(line, err=True)
    raise typer.Exit(exit_code(errors[0]))


def exit_code(error: Exception) -> ExitCode:
    """Returns the exit code for an error."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, StepwireError):
        return _CODES.get(code_of(error), ExitCode.INTERNAL)
    return ExitCode.INTERNAL


def _describe(error: Exception) -> Iterator[str]:
    """Gives the lines that tell an error to a person."""
    if not isinstance(error, StepwireError):
        yield f"error: {error}"
        return
    yield f"error: {error.message} [{error.reason.value}]"
    for fault in error.faults:
        if fault.description not in error.message:
            yield f"  {fault.field}: {fault.description}"
    named = {"field"} if error.faults else set()
    for key, value in sorted(error.metadata.items()):
        if key not in named and value not in error.message:
            yield f"  {key}: {value}"
    if error.retry_after is not None:
        yield f"  try again in {error.retry_after.total_seconds():g} s"
    elif error.reason in _ABOUT_THE_KEY:
        yield f"  The key is taken from the environment variable {VARIABLE}."
    elif error.reason is Reason.DEPENDENCY_UNAVAILABLE:
        yield (
            "  Is Stepwire running? `stepwire status` tells, `stepwire up` starts it. That of "
            "another folder: --home or --gateway."
        )


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
