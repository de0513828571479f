"""Schedules, for programs."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from stepwire.api.executor.v1 import schedule_service_pb2 as pb
from stepwire.api.executor.v1.schedule_service_pb2_grpc import (
    ScheduleServiceAsyncStub,
    ScheduleServiceStub,
)
from stepwire.errors import Reason, StepwireError
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.requests import new_request_id

PAGE_SIZE = 100


class Schedules:
    """Tasks that are created again and again. Every method raises `StepwireError`.

    Args:
        channel: To the gateway; the caller closes it.
        target: What `channel` leads to, for error messages.
        timeout: Longest time for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, *, target: str, timeout: timedelta) -> None:
        self._stub: ScheduleServiceAsyncStub = ScheduleServiceStub(channel)
        self._target = target
        self._timeout_seconds = timeout.total_seconds()

    async def create(
        self,
        name: str,
        config: pb.ScheduleConfig,
        *,
        paused: bool = False,
        note: str = "",
        validate_only: bool = False,
    ) -> pb.Schedule:
        """Creates a schedule and returns it.

        Args:
            name: Its name.
            config: When it fires, and what it creates; the task has no request_id.
            paused: Whether it begins paused.
            note: For people.
            validate_only: Only checks the request, and records nothing.
        """
        request = pb.CreateScheduleRequest(
            name=name,
            config=config,
            paused=paused,
            note=note,
            request_id=new_request_id(),
            validate_only=validate_only,
        )
        with raising_ours(self._target):
            response = await self._stub.CreateSchedule(request, timeout=self._timeout_seconds)
        return response.schedule

    async def get(self, name: str) -> pb.Schedule:
        """Reads a schedule, with what became of its last firings."""
        with raising_ours(self._target):
            response = await self._stub.GetSchedule(
                pb.GetScheduleRequest(name=name), timeout=self._timeout_seconds
            )
        return response.schedule

    async def find(self) -> AsyncIterator[pb.Schedule]:
        """Yields the schedules by name, without their tasks and firings."""
        request = pb.ListSchedulesRequest(page_size=PAGE_SIZE)
        while True:
            with raising_ours(self._target):
                response = await self._stub.ListSchedules(request, timeout=self._timeout_seconds)
            for schedule in response.schedules:
                yield schedule
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    async def update(
        self,
        name: str,
        config: pb.ScheduleConfig,
        *,
        fields: Sequence[str] = (),
        etag: str = "",
    ) -> pb.Schedule:
        """Changes a schedule's configuration and returns it.

        Args:
            name: The schedule.
            config: The new values.
            fields: Names of the fields that change; none means all.
            etag: Refuses the change if the schedule has another one by now; empty does not.
        """
        request = pb.UpdateScheduleRequest(
            name=name,
            config=config,
            update_mask=FieldMask(paths=fields),
            etag=etag,
            request_id=new_request_id(),
        )
        with raising_ours(self._target):
            response = await self._stub.UpdateSchedule(request, timeout=self._timeout_seconds)
        return response.schedule

    async def apply(self, name: str, config: pb.ScheduleConfig) -> pb.Schedule:
        """Creates a schedule, or gives the one of this name the configuration; returns it."""
        try:
            return await self.update(name, config)
        except StepwireError as error:
            if error.reason is not Reason.SCHEDULE_NOT_FOUND:
                raise
        return await self.create(name, config)

    async def delete(self, name: str) -> None:
        """Deletes a schedule; its tasks stay."""
        request = pb.DeleteScheduleRequest(name=name, request_id=new_request_id())
        with raising_ours(self._target):
            await self._stub.DeleteSchedule(request, timeout=self._timeout_seconds)

    async def pause(self, name: str, *, note: str = "") -> pb.Schedule:
        """Stops a schedule's firings and returns it."""
        request = pb.PauseScheduleRequest(name=name, note=note, request_id=new_request_id())
        with raising_ours(self._target):
            response = await self._stub.PauseSchedule(request, timeout=self._timeout_seconds)
        return response.schedule

    async def resume(self, name: str, *, note: str = "") -> pb.Schedule:
        """Lets a paused schedule fire from now on and returns it."""
        request = pb.ResumeScheduleRequest(name=name, note=note, request_id=new_request_id())
        with raising_ours(self._target):
            response = await self._stub.ResumeSchedule(request, timeout=self._timeout_seconds)
        return response.schedule

    async def trigger(
        self,
        name: str,
        *,
        overlap: "pb.OverlapPolicy.ValueType" = pb.OVERLAP_POLICY_UNSPECIFIED,
    ) -> pb.ScheduleRun:
        """Fires once, now; returns what came of it.

        Args:
            name: The schedule.
            overlap: What happens if the last task has not ended; unspecified means what the
                schedule says.
        """
        request = pb.TriggerScheduleRequest(
            name=name, overlap_policy=overlap, request_id=new_request_id()
        )
        with raising_ours(self._target):
            response = await self._stub.TriggerSchedule(request, timeout=self._timeout_seconds)
        return response.run
