"""What a kind of step gets, and what it may give and raise."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from executor_svc.engine.records import Attempt
from executor_svc.graphs.expressions import Expression
from stepwire.sdk.functions import StepContext


class StepError(Exception):
    """An attempt failed in a way that the kind knows.

    Attributes:
        reason: name of an ErrorReason.
        retryable: whether another attempt could succeed.
        retry_after: shortest wait before it.
        metadata: details by name.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "STEP_FAILED",
        retryable: bool = False,
        retry_after: timedelta | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.retry_after = retry_after
        self.metadata = metadata or {}


@dataclass(slots=True)
class StepCall:
    """One attempt, as a kind sees it.

    Attributes:
        spec: the kind's message of the graph.
        value: the step's input as a JSON value.
        evaluate: evaluates one of `template` with what expressions see, and `value`.
        template: the kind's own expressions.
        context: names the attempt.
        attempt: the attempt itself.
        came: whether the step has waited, as it asked for, and goes on now.
    """

    spec: Any
    value: Any
    evaluate: Callable[[Expression], Any]
    template: tuple[Expression, ...]
    context: StepContext
    attempt: Attempt
    came: bool = False


class Kind(Protocol):
    """Runs the steps of one kind."""

    async def run(self, call: StepCall) -> Any:
        """Return the step's output as a JSON value.

        It may also return `Waits`, to be run again when what it waits for has come, or
        `stepwire.sdk.functions.AddedSteps`.

        Raises:
            StepError: the attempt failed.
            StepwireError: a service refused it.
            Exception: anything else fails the attempt and may be tried again.
        """


@runtime_checkable
class InstantKind(Protocol):
    """Runs the steps of a kind that does no I/O and is over at once."""

    def run_now(self, call: StepCall) -> Any:
        """Return the step's output as a JSON value; raises as `Kind.run`."""


def input_error(what: str) -> StepError:
    """The fault of an input that the kind cannot take."""
    return StepError(f"input: {what}", reason="FIELD_INVALID", metadata={"field": "input"})
