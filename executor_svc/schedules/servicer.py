"""The calls of schedules: decode, one call into the domain, encode."""

from typing import Any

import grpc.aio

from executor_svc.schedules import codec
from executor_svc.schedules.registry import Schedules
from executor_svc.schedules.rules import check_note
from executor_svc.tasks.fields import page_size_of
from stepwire.api.executor.v1 import schedule_service_pb2 as pb
from stepwire.api.executor.v1.schedule_service_pb2_grpc import ScheduleServiceServicer
from stepwire.call import current_call
from stepwire.names import check_name

Context = grpc.aio.ServicerContext[Any, Any]


class ScheduleServicer(ScheduleServiceServicer):
    """See protos/stepwire/api/executor/v1/schedule_service.proto."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    async def CreateSchedule(
        self, request: pb.CreateScheduleRequest, context: Context
    ) -> pb.CreateScheduleResponse:
        tenant_id = current_call().tenant_id
        created = await self._schedules.create(
            codec.schedule_of(request, tenant_id=tenant_id),
            codec.request_of(request, tenant_id=tenant_id),
            validate_only=request.validate_only,
        )
        response = pb.CreateScheduleResponse()
        codec.write_schedule(created, self._schedules.next_times(created), response.schedule)
        return response

    async def GetSchedule(
        self, request: pb.GetScheduleRequest, context: Context
    ) -> pb.GetScheduleResponse:
        found = await self._schedules.get(current_call().tenant_id, check_name(request.name))
        response = pb.GetScheduleResponse()
        codec.write_schedule(found, self._schedules.next_times(found), response.schedule)
        return response

    async def ListSchedules(
        self, request: pb.ListSchedulesRequest, context: Context
    ) -> pb.ListSchedulesResponse:
        size = page_size_of(request.page_size)
        tenant_id = current_call().tenant_id
        found = await self._schedules.list(
            tenant_id, after=codec.PAGES.read(tenant_id, request.page_token), limit=size + 1
        )
        response = pb.ListSchedulesResponse()
        for schedule in found[:size]:
            times = self._schedules.next_times(schedule, 1)
            codec.write_schedule(schedule, times, response.schedules.add())
        if len(found) > size:
            response.next_page_token = codec.PAGES.make(tenant_id, found[size - 1].name)
        return response

    async def UpdateSchedule(
        self, request: pb.UpdateScheduleRequest, context: Context
    ) -> pb.UpdateScheduleResponse:
        tenant_id = current_call().tenant_id
        updated = await self._schedules.update(
            tenant_id,
            check_name(request.name),
            codec.edit_of(request),
            etag=request.etag,
            request=codec.request_of(request, tenant_id=tenant_id),
        )
        response = pb.UpdateScheduleResponse()
        codec.write_schedule(updated, self._schedules.next_times(updated), response.schedule)
        return response

    async def DeleteSchedule(
        self, request: pb.DeleteScheduleRequest, context: Context
    ) -> pb.DeleteScheduleResponse:
        tenant_id = current_call().tenant_id
        await self._schedules.delete(
            tenant_id,
            check_name(request.name),
            etag=request.etag,
            request=codec.request_of(request, tenant_id=tenant_id),
        )
        return pb.DeleteScheduleResponse()

    async def PauseSchedule(
        self, request: pb.PauseScheduleRequest, context: Context
    ) -> pb.PauseScheduleResponse:
        tenant_id = current_call().tenant_id
        paused = await self._schedules.pause(
            tenant_id,
            check_name(request.name),
            note=check_note(request.note),
            request=codec.request_of(request, tenant_id=tenant_id),
        )
        response = pb.PauseScheduleResponse()
        codec.write_schedule(paused, self._schedules.next_times(paused), response.schedule)
        return response

    async def ResumeSchedule(
        self, request: pb.ResumeScheduleRequest, context: Context
    ) -> pb.ResumeScheduleResponse:
        tenant_id = current_call().tenant_id
        resumed = await self._schedules.resume(
            tenant_id,
            check_name(request.name),
            note=check_note(request.note),
            request=codec.request_of(request, tenant_id=tenant_id),
        )
        response = pb.ResumeScheduleResponse()
        codec.write_schedule(resumed, self._schedules.next_times(resumed), response.schedule)
        return response

    async def TriggerSchedule(
        self, request: pb.TriggerScheduleRequest, context: Context
    ) -> pb.TriggerScheduleResponse:
        tenant_id = current_call().tenant_id
        run = await self._schedules.trigger(
            tenant_id,
            check_name(request.name),
            overlap=codec.policy_of(request.overlap_policy),
            request=codec.request_of(request, tenant_id=tenant_id),
        )
        response = pb.TriggerScheduleResponse()
        codec.write_run(run, response.run)
        return response
