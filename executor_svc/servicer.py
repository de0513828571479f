"""The executor's calls: decode, one call into the domain, encode."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio

from executor_svc.tasks import codec, fields
from executor_svc.tasks.bulk import Action, Bulk, Change
from executor_svc.tasks.creator import Creator
from executor_svc.tasks.forking import Forks
from executor_svc.tasks.intake import Intake
from executor_svc.tasks.ports import Signal
from executor_svc.tasks.steering import Steering
from executor_svc.tasks.tasks import Tasks
from executor_svc.tasks.watching import Watches
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


@dataclass(frozen=True, slots=True)
class Domain:
    """What the calls lead to."""

    intake: Intake
    creator: Creator
    tasks: Tasks
    watches: Watches
    steering: Steering
    forks: Forks
    bulk: Bulk


class ExecutorServicer(ExecutorServiceServicer):
    """See protos/stepwire/api/executor/v1/executor_service.proto."""

    def __init__(
        self,
        domain: Domain,
        *,
        max_payload_bytes: int,
        max_batch_tasks: int,
        max_wait: timedelta,
    ) -> None:
        self._intake = domain.intake
        self._creator = domain.creator
        self._tasks = domain.tasks
        self._watches = domain.watches
        self._steering = domain.steering
        self._forks = domain.forks
        self._bulk = domain.bulk
        self._max_payload_bytes = max_payload_bytes
        self._max_batch_tasks = max_batch_tasks
        self._max_wait = max_wait

    async def CreateTask(
        self, request: pb.CreateTaskRequest, context: Context
    ) -> pb.CreateTaskResponse:
        submission = await self._intake.read(
            request, tenant_id=current_call().tenant_id, only_check=request.validate_only
        )
        response = pb.CreateTaskResponse()
        if request.validate_only:
            codec.write_submission(submission, datetime.now(UTC), response.task)
            return response
        (accepted,) = await self._creator.create([submission])
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
            if each.validate_only:
                raise field_invalid(f"requests[{place}].validate_only", "is for CreateTask alone")
        tenant_id = current_call().tenant_id
        accepted = await self._creator.create(
            [
                await self._intake.read(each, tenant_id=tenant_id, prefix=f"requests[{place}].")
                for place, each in enumerate(request.requests)
            ]
        )
        return pb.BatchCreateTasksResponse(task_ids=[str(each.task_id) for each in accepted])

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        view = await self._tasks.view(
            fields.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            with_input=True,
            steps=request.include_steps,
            outputs=request.include_steps and request.include_outputs,
        )
        response = pb.GetTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def ListTasks(
        self, request: pb.ListTasksRequest, context: Context
    ) -> pb.ListTasksResponse:
        size = fields.page_size_of(request.page_size)
        wanted = fields.filter_of(request.filter)
        tenant_id = current_call().tenant_id
        tasks = await self._tasks.list(
            wanted,
            tenant_id=tenant_id,
            before=fields.page_start(request.page_token, wanted, tenant_id=tenant_id),
            limit=size + 1,
        )
        response = pb.ListTasksResponse()
        for task in tasks[:size]:
            codec.write_summary(task, response.tasks.add())
        if len(tasks) > size:
            response.next_page_token = fields.page_token(
                tasks[size - 1].task_id, wanted, tenant_id=tenant_id
            )
        return response

    async def WaitTask(self, request: pb.WaitTaskRequest, context: Context) -> pb.WaitTaskResponse:
        view = await self._watches.wait(
            fields.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            at_most=fields.timeout_of(request.timeout, limit=min(self._max_wait, _time_left())),
        )
        response = pb.WaitTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def WatchTask(
        self, request: pb.WatchTaskRequest, context: Context
    ) -> AsyncIterator[pb.WatchTaskResponse]:
        if request.after_cursor < 0:
            raise field_invalid("after_cursor", "must not be negative")
        watch = self._watches.watch(
            fields.task_id_of(request.task_id),
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
        fields.check_request_id(request.request_id)
        view = await self._steering.cancel(
            fields.task_id_of(request.task_id), tenant_id=current_call().tenant_id
        )
        response = pb.CancelTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def RetryTask(
        self, request: pb.RetryTaskRequest, context: Context
    ) -> pb.RetryTaskResponse:
        view = await self._steering.retry(
            fields.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            request_id=fields.check_request_id(request.request_id),
        )
        response = pb.RetryTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def PauseTask(
        self, request: pb.PauseTaskRequest, context: Context
    ) -> pb.PauseTaskResponse:
        view = await self._steering.pause(
            fields.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            request_id=fields.check_request_id(request.request_id),
        )
        response = pb.PauseTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def ResumeTask(
        self, request: pb.ResumeTaskRequest, context: Context
    ) -> pb.ResumeTaskResponse:
        view = await self._steering.resume(
            fields.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            request_id=fields.check_request_id(request.request_id),
        )
        response = pb.ResumeTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def ForkTask(self, request: pb.ForkTaskRequest, context: Context) -> pb.ForkTaskResponse:
        view = await self._forks.fork(
            fields.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            from_step=request.from_step,
            request_id=fields.check_request_id(request.request_id),
            labels=fields.check_labels(request.labels, field="labels"),
            traceparent=inject_traceparent(),
        )
        response = pb.ForkTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def SignalTask(
        self, request: pb.SignalTaskRequest, context: Context
    ) -> pb.SignalTaskResponse:
        view = await self._steering.signal(
            fields.task_id_of(request.task_id),
            tenant_id=current_call().tenant_id,
            signal=self._signal(request),
        )
        response = pb.SignalTaskResponse()
        codec.write_task(view, response.task)
        return response

    async def BulkUpdateTasks(
        self, request: pb.BulkUpdateTasksRequest, context: Context
    ) -> pb.BulkUpdateTasksResponse:
        wanted = fields.filter_of(request.filter)
        if wanted.is_empty:
            raise field_invalid("filter", "must have at least one condition")
        change = _change(request)
        tenant_id = current_call().tenant_id
        page = await self._bulk.update(
            wanted,
            change,
            tenant_id=tenant_id,
            position=fields.position_of(
                request.page_token, wanted, change.action, tenant_id=tenant_id
            ),
            limit=fields.page_size_of(request.page_size, default=fields.DEFAULT_BULK_PAGE_SIZE),
            validate_only=request.validate_only,
        )
        return pb.BulkUpdateTasksResponse(
            task_ids=[str(task_id) for task_id in page.task_ids],
            refused={str(task_id): reason for task_id, reason in page.refused.items()},
            next_page_token=fields.position_token(
                page.next, wanted, change.action, tenant_id=tenant_id
            ),
        )

    def _signal(self, request: pb.SignalTaskRequest) -> Signal:
        data, content_type = payload.encode(
            request.payload, field="payload", limit_bytes=self._max_payload_bytes
        )
        if content_type != payload.JSON:
            raise field_invalid("payload.content_type", f"must be {payload.JSON}")
        return Signal(request.name, data, fields.check_request_id(request.request_id))


def _change(request: pb.BulkUpdateTasksRequest) -> Change:
    action = fields.action_of(request.action)
    if bool(request.from_step) != (action is Action.FORK):
        raise field_invalid("from_step", "must be set for FORK, and for nothing else")
    return Change(
        action,
        from_step=request.from_step,
        request_id=fields.check_request_id(
            request.request_id, at_most=fields.MAX_BULK_REQUEST_ID_CHARACTERS
        ),
        traceparent=inject_traceparent(),
    )


def _time_left() -> timedelta:
    """How long a call may wait and still be answered before its deadline."""
    deadline = current_call().deadline
    if deadline is None:
        return timedelta.max
    left = max(0.0, deadline - time.monotonic())
    return timedelta(seconds=left - min(ANSWER_SECONDS, left * ANSWER_SHARE))
