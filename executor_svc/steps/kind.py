"""What a kind of step gets, and what it may raise."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from executor_svc.expressions import Expression
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


@dataclass(frozen=True, slots=True)
class StepCall:
    """One attempt, as a kind sees it.

    Attributes:
        spec: the kind's message of the graph.
        value: the step's input as a JSON value.
        evaluate: evaluates one of `template` with what expressions see, and `value`.
        template: the kind's own expressions.
        context: names the attempt.
    """

    spec: Any
    value: Any
    evaluate: Callable[[Expression], Any]
    template: tuple[Expression, ...]
    context: StepContext


class Kind(Protocol):
    """Runs the steps of one kind."""

    async def run(self, call: StepCall) -> Any:
        """Return the step's output as a JSON value.

        Raises:
            StepError: the attempt failed.
            StepwireError: a service refused it.
            Exception: anything else fails the attempt and may be tried again.
        """


def input_error(what: str) -> StepError:
    """The fault of an input that the kind cannot take."""
    return StepError(f"input: {what}", reason="FIELD_INVALID", metadata={"field": "input"})
