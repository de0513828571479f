"""The executor's calls: decode, one call into the domain, encode."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import grpc.aio

from executor_svc import codec
from executor_svc.creator import Creator, Submission
from executor_svc.records import Blob
from executor_svc.tasks import Tasks
from stepwire import payload
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceServicer
from stepwire.call import current_call
from stepwire.errors import field_invalid
from stepwire.telemetry import inject_traceparent

Context = grpc.aio.ServicerContext[Any, Any]

# Kept back from a call's time to answer it: a share of what is left, at most so much.
ANSWER_SHARE = 0.1
ANSWER_SECONDS = 0.5


class ExecutorServicer(ExecutorServiceServicer):
    """See protos/stepwire/api/executor/v1/executor_service.proto."""

    def __init__(
        self,
        tasks: Tasks,
        creator: Creator,
        *,
        max_payload_bytes: int,
        max_batch_tasks: int,
        max_wait: timedelta,
    ) -> None:
        self._tasks = tasks
        self._creator = creator
        self._max_payload_bytes = max_payload_bytes
        self._max_batch_tasks = max_batch_tasks
        self._max_wait = max_wait

    async def CreateTask(
        self, request: pb.CreateTaskRequest, context: Context
    ) -> pb.CreateTaskResponse:
        submission = self._submission(request, "")
        (accepted,) = await self._creator.create([submission])
        response = pb.CreateTaskResponse()
        if accepted.created_at is None:
            view = await self._tasks.view(accepted.task_id, tenant_id=submission.tenant_id)
            codec.write_task(view, response.task)
        else:
            codec.write_accepted(submission, accepted, response.task)
        return response

    async def BatchCreateTasks(
        self, request: pb.BatchCreateTasksRequest, context: Context
    ) -> pb.BatchCreateTasksResponse:
        if not 1 <= len(request.requests) <= self._max_batch_tasks:
            raise field_invalid("requests", f"must have 1 to {self._max_batch_tasks} entries")
        seen: set[str] = set()
        for place, each in enumerate(request.requests):
            if each.request_id and each.request_id in seen:
                raise field_invalid(f"requests[{place}].request_id", "stands twice in the batch")
            seen.add(each.request_id)
        accepted = await self._creator.create(
            [
                self._submission(each, f"requests[{place}].")
                for place, each in enumerate(request.requests)
            ]
        )
        return pb.BatchCreateTasksResponse(task_ids=[str(each.task_id) for each in accepted])

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        view = await self._tasks.view(
            codec.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            steps=request.include_steps,
            outputs=request.include_steps and request.include_outputs,
        )
        response = pb.GetTaskResponse()
        codec.write_task(view, response.task, full=True)
        return response

    async def ListTasks(
        self, request: pb.ListTasksRequest, context: Context
    ) -> pb.ListTasksResponse:
        size = codec.page_size_of(request.page_size)
        tenant_id = current_call().tenant_id
        tasks = await self._tasks.list(
            tenant_id=tenant_id,
            before=codec.page_start(request.page_token, tenant_id=tenant_id),
            state=codec.state_of(request.state),
            labels=codec.check_labels(request.labels, field="labels"),
            limit=size + 1,
        )
        response = pb.ListTasksResponse()
        for task in tasks[:size]:
            codec.write_summary(task, response.tasks.add())
        if len(tasks) > size:
            response.next_page_token = codec.page_token(
                tasks[size - 1].task_id, tenant_id=tenant_id
            )
        return response

    async def WaitTask(self, request: pb.WaitTaskRequest, context: Context) -> pb.WaitTaskResponse:
        view = await self._tasks.wait(
            codec.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            at_most=codec.timeout_of(request.timeout, limit=min(self._max_wait, _time_left())),
        )
        response = pb.WaitTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def WatchTask(
        self, request: pb.WatchTaskRequest, context: Context
    ) -> AsyncIterator[pb.WatchTaskResponse]:
        if request.after_cursor < 0:
            raise field_invalid("after_cursor", "must not be negative")
        watch = self._tasks.watch(
            codec.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            after=request.after_cursor,
        )
        async with aclosing(watch) as events:
            async for event in events:
                response = pb.WatchTaskResponse()
                codec.write_event(event, response.event)
                yield response

    async def CancelTask(
        self, request: pb.CancelTaskRequest, context: Context
    ) -> pb.CancelTaskResponse:
        codec.check_request_id(request.request_id)
        view = await self._tasks.cancel(
            codec.task_id_of(request.task_id), tenant_id=current_call().tenant_id
        )
        response = pb.CancelTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def RetryTask(
        self, request: pb.RetryTaskRequest, context: Context
    ) -> pb.RetryTaskResponse:
        view = await self._tasks.retry(
            codec.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            request_id=codec.check_request_id(request.request_id),
        )
        response = pb.RetryTaskResponse()
        codec.write_task(view, response.task)
        return response

    def _submission(self, request: pb.CreateTaskRequest, prefix: str) -> Submission:
        data, content_type = payload.encode(
            request.input, field=f"{prefix}input", limit_bytes=self._max_payload_bytes
        )
        if content_type != payload.JSON:
            # CEL and the step kinds work on JSON; other types come with payload references.
            raise field_invalid(f"{prefix}input.content_type", f"must be {payload.JSON}")
        return Submission(
            tenant_id=current_call().tenant_id,
            graph=self._tasks.compile(request.graph, field=f"{prefix}graph"),
            input=Blob(data, content_type),
            request_id=codec.check_request_id(request.request_id, field=f"{prefix}request_id"),
            labels=codec.check_labels(request.labels, field=f"{prefix}labels"),
            traceparent=inject_traceparent(),
        )


def _time_left() -> timedelta:
    """How long a call may wait and still be answered before its deadline."""
    deadline = current_call().deadline
    if deadline is None:
        return timedelta.max
    left = max(0.0, deadline - time.monotonic())
    return timedelta(seconds=left - min(ANSWER_SECONDS, left * ANSWER_SHARE))
