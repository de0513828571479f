"""How an attempt can end. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from executor_svc.engine.records import Blob, Failure
from executor_svc.graphs.graph import Graph


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The attempt gave an output; None for a for_each step whose items have it."""

    output: Blob | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """The step is not to be run."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """The attempt of a for_each step gave its items, each as JSON."""

    items: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Added:
    """The attempt adds steps to the task; their result is to be its output.

    Attributes:
        graph: the steps, which are in the record already.
        input: what their expressions see as `input`, as JSON.
    """

    graph: Graph
    input: bytes


@dataclass(frozen=True, slots=True)
class Waits:
    """The step waits without holding a worker; see StepRun.waits_for.

    Attributes:
        wait: how long at most; None for no such bound.
        until: until when at most; None for no such bound.
        keep: what the attempt that follows finds in its `inbox`, as JSON.
    """

    waits_for: str
    wait: timedelta | None = None
    until: datetime | None = None
    keep: bytes | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed.

    Attributes:
        retryable: whether another attempt could succeed.
        retry_after: shortest wait before it, as the failure itself asks for.
    """

    failure: Failure
    retryable: bool = True
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Compensated:
    """What compensates a task has run; `failed` are the steps that could not be undone."""

    failed: Sequence[str]


Outcome = Succeeded | Skipped | Expanded | Added | Waits | Failed | Compensated
