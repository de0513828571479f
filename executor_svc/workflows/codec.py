"""Between the messages of WorkflowService and its records."""

from executor_svc.graphs.compile_step import check_priority
from executor_svc.graphs.graph import Graph
from executor_svc.tasks.fields import check_labels
from executor_svc.workflows.names import check_version
from executor_svc.workflows.problems import Problem
from executor_svc.workflows.records import (
    Defaults,
    Draft,
    Version,
    VersionKey,
    VersionState,
)
from executor_svc.workflows.shape import longest_chain
from stepwire.api.executor.v1 import graph_pb2
from stepwire.api.executor.v1 import workflow_service_pb2 as pb
from stepwire.errors import field_invalid
from stepwire.names import check_name
from stepwire.page_tokens import PageTokens

MAX_DESCRIPTION_CHARACTERS = 4096

_NAMES = PageTokens("ListWorkflows")
_STATES = {
    pb.WORKFLOW_VERSION_STATE_ACTIVE: VersionState.ACTIVE,
    pb.WORKFLOW_VERSION_STATE_DEPRECATED: VersionState.DEPRECATED,
}


def key_of(tenant_id: str, name: str, version: str, *, newest: bool = False) -> VersionKey:
    """Read what names a version; with `newest` the version may be empty.

    Raises:
        StepwireError: FIELD_INVALID, naming `name` or `version`.
    """
    check_name(name)
    if version or not newest:
        check_version(version)
    return VersionKey(tenant_id, name, version)


def draft_of(request: pb.RegisterWorkflowRequest, graph: Graph) -> Draft:
    """Read what a version is to hold.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    description, defaults = request.description, request.defaults
    if len(description) > MAX_DESCRIPTION_CHARACTERS or "\0" in description:
        raise field_invalid(
            "description",
            f"must have at most {MAX_DESCRIPTION_CHARACTERS} characters, none of them U+0000",
        )
    labels = check_labels(defaults.labels, field="defaults.labels")
    priority = check_priority(defaults.priority, field="defaults.priority")
    return Draft(graph.graph_hash, Defaults(labels, priority), description)


def state_of(state: int) -> VersionState:
    """Read the state wanted.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if state not in _STATES:
        raise field_invalid("state", "must be ACTIVE or DEPRECATED")
    return _STATES[state]  # type: ignore[index]


def name_start(token: str, tenant_id: str) -> str:
    """Read a page token of ListWorkflows: the name behind which the page begins."""
    return _NAMES.read(tenant_id, token)


def name_token(version: Version) -> str:
    """Return the token of the page behind a workflow."""
    return _NAMES.make(version.key.tenant_id, version.key.name)


def place_start(token: str, tenant_id: str, name: str) -> int | None:
    """Read a page token of ListWorkflowVersions: the place before which the page begins."""
    last = _places(name).read(tenant_id, token)
    return int(last) if last else None


def place_token(version: Version) -> str:
    """Return the token of the page behind a version."""
    return _places(version.key.name).make(version.key.tenant_id, str(version.place))


def _places(name: str) -> PageTokens:
    return PageTokens(f"ListWorkflowVersions of {name}")


def write_version(
    version: Version, message: pb.WorkflowVersion, *, graph: Graph | None = None
) -> None:
    """Write a version; with its graph where it is given."""
    draft = version.draft
    message.name = version.key.name
    message.version = version.key.version
    message.state = pb.WorkflowVersionState.Value(f"WORKFLOW_VERSION_STATE_{version.state}")
    message.description = draft.description
    if graph is not None:
        message.graph.CopyFrom(graph_pb2.Graph.FromString(graph.spec))
    message.defaults.labels.update(draft.defaults.labels)
    message.defaults.priority = draft.defaults.priority
    message.graph_hash = draft.graph_hash.hex()
    message.create_time.FromDatetime(version.created_at)
    message.update_time.FromDatetime(version.updated_at)
    if version.used_at is not None:
        message.first_use_time.FromDatetime(version.used_at)


def write_problem(problem: Problem, message: pb.GraphProblem) -> None:
    """Write a problem of a graph."""
    message.field = problem.field
    message.reason = problem.reason
    message.description = problem.description


def write_shape(graph: Graph, message: pb.GraphShape) -> None:
    """Write what a graph looks like."""
    message.steps = len(graph.steps)
    message.sinks.extend(step.name for step in graph.sinks)
    message.longest_chain.extend(longest_chain(graph))
    message.graph_hash = graph.graph_hash.hex()
