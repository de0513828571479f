"""The schedules of one tenant, as a client of the executor sees them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stepwire.api.executor.v1 import executor_service_pb2, graph_pb2
from stepwire.api.executor.v1 import schedule_service_pb2 as pb
from stepwire.api.executor.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from stepwire.call import call_context
from stepwire.rpc import open_channel
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    Mesh,
    graph,
    running_mesh,
    transform,
)

EVERY_SECOND = "* * * * * *"
ONCE_A_YEAR = "0 0 1 1 *"
# No test waits for a look: what it waits for must come by itself.
SETTINGS: dict[str, Any] = {"schedule_min_interval_seconds": 1, "schedule_sweep_seconds": 600}


def task_of(what: graph_pb2.Graph | None = None, **fields: Any) -> Any:
    """The request for a schedule's tasks."""
    one = graph(transform("a", "input")) if what is None else what
    return executor_service_pb2.CreateTaskRequest(graph=one, **fields)


def config_of(cron: str = ONCE_A_YEAR, policy: str = "", **fields: Any) -> pb.ScheduleConfig:
    """A configuration; spans of time may be timedeltas."""
    config = pb.ScheduleConfig(cron=cron)
    config.task.CopyFrom(fields.pop("task", None) or task_of())
    if policy:
        config.overlap_policy = pb.OverlapPolicy.Value(f"OVERLAP_POLICY_{policy}")
    for name, value in fields.items():
        match value:
            case timedelta():
                getattr(config, name).FromTimedelta(value)
            case datetime():
                getattr(config, name).FromDatetime(value)
            case _:
                setattr(config, name, value)
    return config


def outcome_of(run: pb.ScheduleRun) -> str:
    return pb.ScheduleRunOutcome.Name(run.outcome).removeprefix("SCHEDULE_RUN_OUTCOME_")


def outcomes(schedule: pb.Schedule) -> list[str]:
    """What became of the last firings, oldest first."""
    return [outcome_of(run) for run in reversed(schedule.recent_runs)]


def times(schedule: pb.Schedule) -> list[str]:
    return [time.ToJsonString() for time in schedule.next_times]


@dataclass
class ScheduleClient:
    """The service as one tenant sees it."""

    stub: Any
    tenant: str = "default"

    def of(self, tenant: str) -> "ScheduleClient":
        return ScheduleClient(self.stub, tenant)

    async def call(self, method: str, request: Any) -> Any:
        with call_context(tenant_id=self.tenant):
            return await getattr(self.stub, method)(request)

    async def create(
        self, name: str, config: pb.ScheduleConfig | None = None, **fields: Any
    ) -> pb.Schedule:
        request = pb.CreateScheduleRequest(name=name, config=config or config_of(), **fields)
        created: pb.Schedule = (await self.call("CreateSchedule", request)).schedule
        return created

    async def get(self, name: str) -> pb.Schedule:
        found: pb.Schedule = (
            await self.call("GetSchedule", pb.GetScheduleRequest(name=name))
        ).schedule
        return found

    async def names(self, page_size: int = 2) -> list[str]:
        """The names of all schedules, a few at a time."""
        found: list[str] = []
        request = pb.ListSchedulesRequest(page_size=page_size)
        while True:
            response = await self.call("ListSchedules", request)
            found += [schedule.name for schedule in response.schedules]
            request.page_token = response.next_page_token
            if not request.page_token:
                return found

    async def update(
        self, name: str, config: pb.ScheduleConfig, mask: Sequence[str] = (), **fields: Any
    ) -> pb.Schedule:
        request = pb.UpdateScheduleRequest(name=name, config=config, **fields)
        request.update_mask.paths.extend(mask)
        updated: pb.Schedule = (await self.call("UpdateSchedule", request)).schedule
        return updated

    async def delete(self, name: str, **fields: Any) -> None:
        await self.call("DeleteSchedule", pb.DeleteScheduleRequest(name=name, **fields))

    async def pause(self, name: str, **fields: Any) -> pb.Schedule:
        request = pb.PauseScheduleRequest(name=name, **fields)
        paused: pb.Schedule = (await self.call("PauseSchedule", request)).schedule
        return paused

    async def resume(self, name: str, **fields: Any) -> pb.Schedule:
        request = pb.ResumeScheduleRequest(name=name, **fields)
        resumed: pb.Schedule = (await self.call("ResumeSchedule", request)).schedule
        return resumed

    async def trigger(self, name: str, policy: str = "", **fields: Any) -> pb.ScheduleRun:
        request = pb.TriggerScheduleRequest(name=name, **fields)
        if policy:
            request.overlap_policy = pb.OverlapPolicy.Value(f"OVERLAP_POLICY_{policy}")
        run: pb.ScheduleRun = (await self.call("TriggerSchedule", request)).run
        return run


@dataclass
class ScheduleMesh:
    """An executor with schedules, and what belongs to it."""

    mesh: Mesh
    schedules: ScheduleClient

    async def fall_due(self, name: str, *, late: timedelta, every: timedelta) -> datetime:
        """Have a schedule behave as if no executor had run for `late` and at most `every`.

        Its expression must fire at the multiples of `every`. Returns the first firing missed.
        """
        (row,) = await self.mesh.fetch(
            "UPDATE executor.schedules SET next_at = f.at, due_at = f.at"
            " FROM (SELECT date_bin($2, now() - $3::interval, '2000-01-01+0') AS at) f"
            " WHERE name = $1 RETURNING next_at",
            name,
            every,
            late,
        )
        first: datetime = row["next_at"]
        return first

    async def look(self) -> None:
        """Have the executor look for what is due: any change makes it do so."""
        await self.schedules.create("look")
        await self.schedules.delete("look")

    async def until(self, name: str, *wanted: str) -> pb.Schedule:
        """Wait until all of `wanted` became of a schedule's firings."""

        async def reached() -> pb.Schedule | None:
            found = await self.schedules.get(name)
            kinds = outcomes(found)
            enough = all(kinds.count(each) >= wanted.count(each) for each in wanted)
            return found if enough else None

        found = await eventually(reached, WAIT_SECONDS)
        assert found is not None
        return found

    async def until_tasks(self, name: str, count: int) -> list[tuple[str, str]]:
        """Wait until a schedule has created some tasks; return them as `tasks` does."""

        async def reached() -> list[tuple[str, str]]:
            found = await self.tasks(name)
            return found if len(found) >= count else []

        return await eventually(reached, WAIT_SECONDS)

    async def tasks(self, name: str) -> list[tuple[str, str]]:
        """The tasks of a schedule: nominal times and states, in order."""
        rows = await self.mesh.fetch(
            "SELECT labels ->> 'stepwire.scheduled_time' AS time, state::text FROM executor.tasks"
            " WHERE labels ->> 'stepwire.schedule' = $1 ORDER BY 1, task_id",
            name,
        )
        return [(row["time"], row["state"]) for row in rows]


@asynccontextmanager
async def running_schedules(
    database_url: str, rabbitmq_url: str, namespace: str, **changes: Any
) -> AsyncIterator[ScheduleMesh]:
    """Run an executor; workers are the test's affair."""
    settings = {**SETTINGS, **changes}
    async with running_mesh(database_url, rabbitmq_url, namespace, **settings) as mesh:  # noqa: SIM117
        async with open_channel(mesh.server.address, retry_unavailable=False) as channel:
            yield ScheduleMesh(mesh, ScheduleClient(ScheduleServiceStub(channel)))
