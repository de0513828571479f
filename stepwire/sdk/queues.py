"""Queues, workers and steps that failed, for programs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypedDict

import grpc.aio

from stepwire.api.executor.v1 import queue_service_pb2 as pb
from stepwire.api.executor.v1.queue_service_pb2_grpc import (
    QueueServiceAsyncStub,
    QueueServiceStub,
)
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.requests import new_request_id
from stepwire.sdk.values import to_duration, to_timestamp

PAGE_SIZE = 100
# Tasks that one call replays.
REPLAY_SIZE = 100
# One call waits so long for a queue to drain; a longer wait is several calls.
DRAIN_SECONDS = 30.0


class FailedConditions(TypedDict, total=False):
    """Selects the failed steps that meet every condition given.

    Attributes:
        reason: Failed for this reason, such as `STEP_TIMED_OUT`.
        queue: In this queue.
        workflow: Of tasks that run this workflow.
        failed_from: Failed at this time or later; with a time zone.
        failed_before: Failed before this time; with a time zone.
    """

    reason: str
    queue: str
    workflow: str
    failed_from: datetime | None
    failed_before: datetime | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a replay; `refused` has reasons by task id."""

    tasks: int = 0
    steps: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)


class Queues:
    """Shows and steers queues and workers, and replays failed steps.

    Every method raises `StepwireError`.

    Args:
        channel: To the gateway; the caller closes it.
        target: What `channel` leads to, for error messages.
        timeout: Longest time for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, *, target: str, timeout: timedelta) -> None:
        self._stub: QueueServiceAsyncStub = QueueServiceStub(channel)
        self._target = target
        self._timeout_seconds = timeout.total_seconds()

    async def list(self) -> Sequence[pb.Queue]:
        """Lists all queues by name."""
        with raising_ours(self._target):
            response = await self._stub.ListQueues(
                pb.ListQueuesRequest(), timeout=self._timeout_seconds
            )
        return response.queues

    async def get(self, queue: str) -> pb.Queue:
        """Reads a queue."""
        with raising_ours(self._target):
            response = await self._stub.GetQueue(
                pb.GetQueueRequest(queue=queue), timeout=self._timeout_seconds
            )
        return response.queue

    async def pause(self, queue: str, *, note: str = "") -> pb.Queue:
        """Lets no further step of a queue start, and returns it."""
        request = pb.PauseQueueRequest(queue=queue, note=note, request_id=new_request_id())
        with raising_ours(self._target):
            response = await self._stub.PauseQueue(request, timeout=self._timeout_seconds)
        return response.queue

    async def resume(self, queue: str) -> pb.Queue:
        """Lets the steps of a paused queue start again, and returns it."""
        request = pb.ResumeQueueRequest(queue=queue, request_id=new_request_id())
        with raising_ours(self._target):
            response = await self._stub.ResumeQueue(request, timeout=self._timeout_seconds)
        return response.queue

    async def drain(
        self, queue: str, *, note: str = "", at_most_seconds: float = DRAIN_SECONDS
    ) -> pb.Queue:
        """Pauses a queue, waits until none of its steps runs or the time is up; returns it."""
        request = pb.DrainQueueRequest(
            queue=queue,
            note=note,
            timeout=to_duration(timedelta(seconds=at_most_seconds)),
            request_id=new_request_id(),
        )
        with raising_ours(self._target):
            response = await self._stub.DrainQueue(
                request, timeout=at_most_seconds + self._timeout_seconds
            )
        return response.queue

    async def workers(self) -> Sequence[pb.Worker]:
        """Lists the workers that are alive, by name."""
        with raising_ours(self._target):
            response = await self._stub.ListWorkers(
                pb.ListWorkersRequest(), timeout=self._timeout_seconds
            )
        return response.workers

    async def drain_worker(self, session_id: str) -> pb.Worker:
        """Lets a worker start no further step, and returns it."""
        request = pb.DrainWorkerRequest(session_id=session_id, request_id=new_request_id())
        with raising_ours(self._target):
            response = await self._stub.DrainWorker(request, timeout=self._timeout_seconds)
        return response.worker

    async def scaling(
        self,
        queues: Sequence[str] = (),
        *,
        target: timedelta | None = None,
        min_workers: int = 0,
        max_workers: int = 0,
    ) -> pb.GetScalingSignalsResponse:
        """Says how busy queues are, and how many workers they want.

        Args:
            queues: Which queues; none means all.
            target: In what time the backlog shall be gone; None means the server's setting.
            min_workers: Fewest workers.
            max_workers: Most workers; 0 means no bound.
        """
        request = pb.GetScalingSignalsRequest(
            queues=queues,
            target=to_duration(target),
            min_workers=min_workers,
            max_workers=max_workers,
        )
        with raising_ours(self._target):
            return await self._stub.GetScalingSignals(request, timeout=self._timeout_seconds)

    async def failed(
        self, conditions: FailedConditions | None = None, *, page_size: int = PAGE_SIZE
    ) -> AsyncIterator[pb.ListFailedStepsResponse]:
        """Yields pages of failed steps, those of the newest tasks first.

        The first page counts all of them by reason.
        """
        request = pb.ListFailedStepsRequest(filter=_filter(conditions or {}), page_size=page_size)
        while True:
            with raising_ours(self._target):
                page = await self._stub.ListFailedSteps(request, timeout=self._timeout_seconds)
            yield page
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def replay_tasks(self, task_ids: Sequence[str]) -> Replayed:
        """Runs the failed steps of tasks again."""
        request = pb.ReplayStepsRequest(task_ids=task_ids, request_id=new_request_id())
        replayed, _ = await self._replay_page(request)
        return replayed

    async def replay(
        self, conditions: FailedConditions, *, limit: int = 0
    ) -> AsyncIterator[Replayed]:
        """Runs failed steps again, those of the oldest tasks first, page by page.

        Args:
            conditions: Which steps; at least one condition.
            limit: Most tasks; 0 means all.
        """
        request = pb.ReplayStepsRequest(filter=_filter(conditions), request_id=new_request_id())
        left = limit
        while True:
            request.page_size = min(REPLAY_SIZE, left) if limit else REPLAY_SIZE
            replayed, request.page_token = await self._replay_page(request)
            yield replayed
            left -= replayed.tasks + len(replayed.refused)
            if not request.page_token or (limit and left <= 0):
                return

    async def _replay_page(self, request: pb.ReplayStepsRequest) -> tuple[Replayed, str]:
        with raising_ours(self._target):
            response = await self._stub.ReplaySteps(request, timeout=self._timeout_seconds)
        replayed = Replayed(
            response.tasks_replayed, response.steps_replayed, dict(response.refused)
        )
        return replayed, response.next_page_token


def _filter(conditions: FailedConditions) -> pb.FailedStepFilter:
    fields: dict[str, Any] = dict(conditions)
    for name in ("failed_from", "failed_before"):
        fields[name] = to_timestamp(fields.get(name))
    return pb.FailedStepFilter(**fields)
