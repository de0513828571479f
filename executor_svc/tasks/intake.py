"""From requests for tasks to what the Creator takes: every rule of CreateTaskRequest."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from executor_svc.engine.records import Blob, Place, StepRef
from executor_svc.graphs.cache import GraphCache
from executor_svc.graphs.compile import GraphLimits
from executor_svc.graphs.compile_step import check_priority
from executor_svc.graphs.durations import LONGEST_WAIT, span_of
from executor_svc.graphs.graph import Graph
from executor_svc.graphs.waits import check_timeout
from executor_svc.tasks.creator import DEFAULT_PRIORITY, Submission
from executor_svc.tasks.fields import check_labels, check_request_id, time_of
from executor_svc.tasks.places import place_of
from executor_svc.tasks.ports import RequestReader
from executor_svc.workflows.names import check_version
from executor_svc.workflows.records import Defaults
from executor_svc.workflows.resolver import Resolved, Resolver
from stepwire import payload
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import StepwireError, field_invalid
from stepwire.names import check_name
from stepwire.telemetry import inject_traceparent


@dataclass(frozen=True, slots=True)
class _What:
    """What a request asks to run; name and version are empty for a graph of its own."""

    graph: Graph
    defaults: Defaults
    name: str = ""
    version: str = ""


class Intake:
    """Reads requests. A workflow that a request names is recorded as used."""

    def __init__(
        self,
        resolver: Resolver,
        graphs: GraphCache,
        record: RequestReader,
        *,
        limits: GraphLimits,
        max_payload_bytes: int,
    ) -> None:
        self._resolver = resolver
        self._graphs = graphs
        self._record = record
        self._limits = limits
        self._own_limits = replace(limits, is_new=False)
        self._max_payload_bytes = max_payload_bytes

    async def read(
        self,
        request: pb.CreateTaskRequest,
        *,
        tenant_id: str,
        prefix: str = "",
        only_check: bool = False,
        own: bool = False,
        has_input: bool = True,
        parent: StepRef | None = None,
        depth: int = 0,
        notify: bool = True,
    ) -> Submission:
        """Check a request and return what it asks for.

        Args:
            request: the request.
            tenant_id: whose task it is.
            prefix: path of the request's fields, for errors.
            only_check: whether the workflow that it names is not to be recorded as used.
            own: whether the server itself asks for it, which may set labels of its own and
                call webhooks.
            has_input: whether the input is that of the task; without it, it has no place.
            parent: the attempt whose subtask it is.
            depth: how many tasks above it are its parents or its cause.
            notify: whether its events are for subscriptions.

        Raises:
            StepwireError: what is wrong with the request or its graph, WORKFLOW_NOT_FOUND or
                WORKFLOW_VERSION_DEPRECATED.
        """
        value = self._input(request, prefix)
        priority = check_priority(request.priority, field=f"{prefix}priority")
        request_id = check_request_id(request.request_id, field=f"{prefix}request_id")
        labels = check_labels(request.labels, field=f"{prefix}labels", may_be_own=own)
        timeout = _timeout(request, prefix)
        start_after = _start_after(request, prefix)
        given = value if has_input else None
        # Last, since it may record a workflow's version as used.
        try:
            what = await self._what(request, tenant_id, prefix, only_check=only_check, own=own)
            check_timeout(timeout, what.graph, field=f"{prefix}timeout")
            all_labels, place = _fit(what, labels, given, prefix)
        except StepwireError:
            made = await self._made(tenant_id, request_id) if request_id else None
            if made is None:
                raise
            what = made
            all_labels, place = _fit(what, labels, given, prefix)
        return Submission(
            tenant_id=tenant_id,
            graph=what.graph,
            input=value,
            request_id=request_id,
            digest=_digest(request) if request_id else b"",
            labels=all_labels,
            traceparent=inject_traceparent(),
            priority=priority or what.defaults.priority or DEFAULT_PRIORITY,
            timeout=timeout or what.graph.timeout,
            start_after=start_after,
            place=place,
            workflow=what.name,
            workflow_version=what.version,
            parent=parent,
            depth=depth,
            notify=notify,
        )

    def _input(self, request: pb.CreateTaskRequest, prefix: str) -> Blob:
        data, content_type = payload.encode(
            request.input, field=f"{prefix}input", limit_bytes=self._max_payload_bytes
        )
        if content_type != payload.JSON:
            # CEL and the step kinds work on JSON; other types come with payload references.
            raise field_invalid(f"{prefix}input.content_type", f"must be {payload.JSON}")
        return Blob(data, content_type)

    async def _what(
        self,
        request: pb.CreateTaskRequest,
        tenant_id: str,
        prefix: str,
        *,
        only_check: bool,
        own: bool,
    ) -> _What:
        if request.WhichOneof("what") != "workflow":
            limits = self._own_limits if own else self._limits
            graph = self._graphs.compile(request.graph, limits=limits, field=f"{prefix}graph")
            return _What(graph, Defaults())
        ref = request.workflow
        found = await self._resolve(ref, tenant_id, prefix, record=not only_check)
        return _What(found.graph, found.defaults, found.name, found.version)

    async def _made(self, tenant_id: str, request_id: str) -> _What | None:
        """Return what the task runs that a request_id has made; None if it has made none.

        What was accepted once is no new task, whatever has become of its workflow since.
        """
        made = await self._record.made(tenant_id, request_id)
        if made is None:
            return None
        graph = await self._graphs.load(made.graph_hash, self._record.read_graph)
        return _What(graph, Defaults(), made.workflow, made.workflow_version)

    async def _resolve(
        self, ref: graph_pb2.WorkflowRef, tenant_id: str, prefix: str, *, record: bool
    ) -> Resolved:
        check_name(ref.name, field=f"{prefix}workflow.name")
        if ref.version:
            check_version(ref.version, field=f"{prefix}workflow.version")
        resolve = self._resolver.resolve if record else self._resolver.preview
        return await resolve(tenant_id, ref.name, ref.version)


def _fit(
    what: _What, labels: Mapping[str, str], value: Blob | None, prefix: str
) -> tuple[Mapping[str, str], Place | None]:
    """Return the labels that a task gets, and the place that it needs with an input.

    Raises:
        StepwireError: FIELD_INVALID, where what it runs and what it is given do not go together.
    """
    merged = {**what.defaults.labels, **labels}
    return (
        check_labels(merged, field=f"{prefix}labels", may_be_own=True),
        None if value is None else place_of(what.graph, value, field=f"{prefix}input"),
    )


def _timeout(request: pb.CreateTaskRequest, prefix: str) -> timedelta | None:
    span = span_of(request.timeout, field=f"{prefix}timeout")
    if not timedelta(0) <= span <= LONGEST_WAIT:
        raise field_invalid(f"{prefix}timeout", f"must be from 0 to {LONGEST_WAIT.days} days")
    return span or None


def _start_after(request: pb.CreateTaskRequest, prefix: str) -> datetime | None:
    """Return when the task may start; None for a time that has passed."""
    if not request.HasField("start_after"):
        return None
    wanted = time_of(request.start_after, field=f"{prefix}start_after")
    now = datetime.now(UTC)
    if wanted - now > LONGEST_WAIT:
        raise field_invalid(
            f"{prefix}start_after", f"must be at most {LONGEST_WAIT.days} days ahead"
        )
    return wanted if wanted > now else None


def _digest(request: pb.CreateTaskRequest) -> bytes:
    """Return the hash by which a repeated request is known to be the same.

    It is of what was asked for, not of what comes of it: "the newest version" is the same
    request even when it means another one by now. Maps, those in a JSON input too, are
    written in one order, since the order in which they are read differs from process to
    process.
    """
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
