"""What programs say of tasks, and the messages that say it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypedDict

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.graph_pb2 import Graph, WorkflowRef
from stepwire.api.executor.v1.task_pb2 import TaskState
from stepwire.sdk.values import to_duration, to_payload, to_timestamp


class TaskOptions(TypedDict, total=False):
    """What may be said of a new task; see `NewTask`."""

    request_id: str
    labels: Mapping[str, str]
    priority: int
    timeout: timedelta | None
    start_after: datetime | None


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create.

    Attributes:
        what: What to do: a graph, or a registered workflow; see `stepwire.sdk.graph`.
        input: The task's input: any JSON value.
        request_id: Idempotency key; empty takes a new one, which protects the call itself
            against doubled sending.
        labels: For filters and for people.
        priority: 1 (goes first) to 9; 0 means 5, or the workflow's own.
        timeout: Longest life of the task; None means that of the graph.
        start_after: The task does not start before this time, which has a time zone.
    """

    what: Graph | WorkflowRef
    input: Any = None
    request_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    timeout: timedelta | None = None
    start_after: datetime | None = None

    @property
    def graph(self) -> Graph:
        """The graph; an empty one for a workflow."""
        return self.what if isinstance(self.what, Graph) else Graph()

    def request(self, *, validate_only: bool = False) -> pb.CreateTaskRequest:
        """Returns the request that creates the task."""
        what = self.what
        return pb.CreateTaskRequest(
            graph=what if isinstance(what, Graph) else None,
            workflow=what if isinstance(what, WorkflowRef) else None,
            input=to_payload(self.input),
            request_id=self.request_id or new_request_id(),
            labels=self.labels,
            priority=self.priority,
            timeout=to_duration(self.timeout),
            start_after=to_timestamp(self.start_after),
            validate_only=validate_only,
        )


class Conditions(TypedDict, total=False):
    """Selects the tasks that meet every condition given.

    Attributes:
        state: In this state.
        labels: With all these labels.
        workflow: Running a version of this workflow.
        workflow_version: Running this version of `workflow`.
        failure_reason: Failed for this reason, such as `STEP_TIMED_OUT`.
        created_from: Created at this time or later.
        created_before: Created before this time.
    """

    state: "TaskState.ValueType"
    labels: Mapping[str, str]
    workflow: str
    workflow_version: str
    failure_reason: str
    created_from: datetime | None
    created_before: datetime | None


def task_filter(conditions: Conditions) -> pb.TaskFilter:
    """Returns conditions as a message."""
    fields: dict[str, Any] = dict(conditions)
    for name in ("created_from", "created_before"):
        fields[name] = to_timestamp(fields.get(name))
    return pb.TaskFilter(**fields)


def new_request_id() -> str:
    """Returns an idempotency key that nobody has used."""
    return str(uuid.uuid4())
