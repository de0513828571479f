"""Firings: each creates one task, whoever carries it out and whatever dies meanwhile."""

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import pytest

from executor_svc.schedules.records import Held, Schedule
from executor_svc.schedules.store import PostgresScheduleStore, queries
from executor_svc.tasks.creator import Creator
from stepwire.api.executor.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from stepwire.db import migrate, open_pool
from stepwire.errors import Reason, StepwireError
from stepwire.rpc import open_channel
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_process import ExecutorProcess, executor_process
from tests.integration.executor_svc.schedule_client import (
    EVERY_SECOND,
    SETTINGS,
    ScheduleClient,
    ScheduleMesh,
    config_of,
    outcome_of,
    outcomes,
    running_schedules,
)
from tests.integration.executor_svc.schedule_fixtures import LEASE, fired, let_go

__all__ = ["fired"]

WAIT_SECONDS = 60.0
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
# The newest of its firings is made up for, however late.
ONE_LATE = config_of("@hourly", catch_up_window=timedelta(hours=2))
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# What was missed for a minute is made up for to the last.
PATIENT: dict[str, Any] = {"catch_up_window": MINUTE, "max_catch_up": 100}


async def many(record: asyncpg.Connection | asyncpg.Pool, count: int, due: str) -> None:
    """Write schedules into the record; SQL says when each is due."""
    await record.execute(
        "INSERT INTO executor.schedules (schedule_id, tenant_id, name, cron, time_zone, task,"
        " overlap, catch_up_window, max_catch_up, jitter, paused, note, next_at, due_at)"
        " SELECT gen_random_uuid(), 'many', 'n' || place, '* * * * *', 'UTC', '', 'SKIP',"
        " '1 min', 1, '0', due IS NULL, '', due, due"
        f" FROM (SELECT place, {due} AS due FROM generate_series(1, $1) place)",
        count,
    )


def assert_each_second_once(tasks: Sequence[tuple[str, str]]) -> None:
    moments = [datetime.fromisoformat(time) for time, _ in tasks]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert gaps == [SECOND] * (len(tasks) - 1)


async def test_two_executors_create_one_task_per_firing(
    fired: ScheduleMesh, rabbitmq_url: str, mq_namespace: str
) -> None:
    names = [f"n{place}" for place in range(20)]
    for name in names:
        await fired.schedules.create(name, config_of(EVERY_SECOND, "ALLOW", **PATIENT))
    url = fired.mesh.database_url
    async with running_schedules(url, rabbitmq_url, mq_namespace, schedule_batch=3) as other:
        await other.schedules.create("another")
        for name in names:
            await fired.until(name, *["STARTED"] * 3)
        for name in names:
            paused = await other.schedules.pause(name)
            tasks = await fired.tasks(name)
            assert_each_second_once(tasks)
            assert set(outcomes(paused)) == {"STARTED"}
            last = [run.nominal_time.ToJsonString() for run in reversed(paused.recent_runs)]
            assert [time for time, _ in tasks][-len(last) :] == last


async def test_two_looks_at_once_take_nothing_twice(database_url: str) -> None:
    async with open_pool(database_url, application_name="test") as pool:
        await migrate(pool, package="executor_svc", schema="executor")
        await many(pool, 10, "now() - place * interval '1 s'")
        store = PostgresScheduleStore(pool)
        taken = await asyncio.gather(*(store.take_due(limit=4, lease=LEASE) for _ in range(5)))
        ids = [held.schedule.schedule_id for each in taken for held in each]
        assert len(ids) == len(set(ids)) == 10
        assert await store.take_due(limit=4, lease=LEASE) == []


async def test_a_crash_before_a_firing_is_recorded_makes_no_second_task(
    fired: ScheduleMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[tuple[Held, Schedule]] = []
    record = PostgresScheduleStore.record

    async def record_once_lost(
        self: PostgresScheduleStore, firings: Sequence[tuple[Held, Schedule]]
    ) -> None:
        # The executor that tests share records firings of other tenants meanwhile.
        if not lost and firings[0][1].tenant_id == "default":
            lost.extend(firings)
            raise ConnectionError("the executor has died")
        await record(self, firings)

    monkeypatch.setattr(PostgresScheduleStore, "record", record_once_lost)
    await fired.schedules.create("n", ONE_LATE)
    first = await fired.fall_due("n", late=timedelta(0), every=HOUR)
    await fired.look()
    tasks = await eventually(lambda: fired.tasks("n"), WAIT_SECONDS)
    assert [datetime.fromisoformat(time) for time, _ in tasks] == [first]
    assert lost
    assert outcomes(await fired.schedules.get("n")) == []
    await let_go(fired)
    await fired.look()
    found = await fired.until("n", "STARTED")
    assert await fired.tasks("n") == tasks
    assert found.last_task_id == str(lost[0][1].last_task_id)
    assert found.next_times[0].ToDatetime(tzinfo=UTC) > first


async def test_killed_executors_lose_and_double_nothing(
    database_url: str, rabbitmq_url: str, mq_namespace: str, tmp_path: Path
) -> None:
    names = [f"n{place}" for place in range(20)]
    settings = {
        "postgres_url": database_url,
        "rabbitmq_url": rabbitmq_url,
        "mq_namespace": mq_namespace,
        **SETTINGS,
    }
    for round_ in range(2):
        with executor_process(tmp_path / "log", **settings) as process:
            async with open_channel(process.address) as channel:
                client = ScheduleClient(ScheduleServiceStub(channel))
                await eventually(lambda client=client: answers(client), WAIT_SECONDS)  # type: ignore[misc]
                if round_ == 0:
                    for name in names:
                        await client.create(name, config_of(EVERY_SECOND, "ALLOW", **PATIENT))
                await killed_between_creating_and_recording(database_url, process)
    async with running_schedules(database_url, rabbitmq_url, mq_namespace) as fired:
        for name in names:
            await fired.until(name, *["STARTED"] * 6)
            await fired.schedules.pause(name)
            assert_each_second_once(await fired.tasks(name))


async def answers(client: ScheduleClient) -> bool:
    try:
        await client.names()
    except grpc.aio.AioRpcError:
        return False
    return True


async def killed_between_creating_and_recording(
    database_url: str, process: ExecutorProcess
) -> None:
    """Kill an executor while Postgres creates tasks for it, which are then committed."""
    holding = await asyncpg.connect(database_url)
    looking = await asyncpg.connect(database_url)

    async def creating() -> bool:
        found: bool = await looking.fetchval(
            "SELECT EXISTS (SELECT FROM executor.schedules WHERE held_until > now()) AND EXISTS"
            " (SELECT FROM pg_stat_activity WHERE wait_event = 'advisory')"
        )
        return found

    async def tasks() -> int:
        count: int = await looking.fetchval("SELECT count(*) FROM executor.tasks")
        return count

    try:
        await looking.execute(WAITING_INSERTS)
        async with holding.transaction():
            await holding.execute("SELECT pg_advisory_xact_lock(1)")
            await eventually(creating, WAIT_SECONDS)
            before = await tasks()
            process.kill()

        async def created() -> bool:
            return await tasks() > before

        await eventually(created, WAIT_SECONDS)
        # Its lease would run out by itself.
        await looking.execute("UPDATE executor.schedules SET held_until = now()")
    finally:
        await holding.close()
        await looking.close()


WAITING_INSERTS = """
CREATE OR REPLACE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER wait_for_test BEFORE INSERT ON executor.tasks
FOR EACH STATEMENT EXECUTE FUNCTION wait_for_test()
"""


async def test_cut_connections_lose_and_double_nothing(fired: ScheduleMesh) -> None:
    await fired.schedules.create("n", config_of(EVERY_SECOND, "ALLOW", **PATIENT))

    async def grows(count: int) -> bool:
        return len(await fired.tasks("n")) > count

    for _ in range(4):
        await fired.mesh.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await let_go(fired)
        await fired.look()
        count = len(await fired.tasks("n"))
        await eventually(lambda count=count: grows(count), WAIT_SECONDS)  # type: ignore[misc]
    await fired.schedules.pause("n")
    assert_each_second_once(await fired.tasks("n"))


async def test_an_outage_is_made_up_for_within_the_window(fired: ScheduleMesh) -> None:
    config = config_of("@daily", "ALLOW", catch_up_window=5 * DAY, max_catch_up=3)
    await fired.schedules.create("n", config)
    first = await fired.fall_due("n", late=60 * DAY, every=DAY)
    await fired.look()
    found = await fired.until("n", "STARTED", "STARTED", "STARTED", "MISSED")
    missed, *started = reversed(found.recent_runs)
    assert outcome_of(missed) == "MISSED"
    assert missed.nominal_time.ToDatetime(tzinfo=UTC) == first
    assert missed.until_time == started[0].nominal_time
    moments = [run.nominal_time.ToDatetime(tzinfo=UTC) for run in started]
    assert moments == [moments[0] + place * DAY for place in range(3)]
    assert found.next_times[0].ToDatetime(tzinfo=UTC) == moments[-1] + DAY
    assert len(await fired.tasks("n")) == 3


async def test_an_outage_beyond_the_window_is_not_made_up_for(fired: ScheduleMesh) -> None:
    # At a time of day that is not just over, whenever this runs.
    hour = (datetime.now(UTC) + timedelta(hours=12)).hour
    await fired.schedules.create("n", config_of(f"0 {hour} * * *"))
    await fired.fall_due("n", late=2 * DAY, every=DAY)
    await fired.look()
    found = await fired.until("n", "MISSED")
    assert outcomes(found) == ["MISSED"]
    assert await fired.tasks("n") == []
    assert found.next_times[0].ToDatetime(tzinfo=UTC) > datetime.now(UTC)


async def test_a_schedule_that_is_over_fires_no_more(fired: ScheduleMesh) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + 3 * SECOND
    config = config_of(EVERY_SECOND, "ALLOW", end_time=end, **PATIENT)
    await fired.schedules.create("n", config)

    async def over() -> bool:
        return not (await fired.schedules.get("n")).next_times

    await eventually(over, WAIT_SECONDS)
    tasks = await fired.tasks("n")
    assert datetime.fromisoformat(tasks[-1][0]) == end
    assert_each_second_once(tasks)


async def test_a_task_that_cannot_be_created_now_is_created_later(
    fired: ScheduleMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[str] = []
    create = Creator.create

    async def create_later(self: Creator, submissions: Any) -> Any:
        # The executor that tests share creates tasks of other tenants meanwhile.
        if len(refusals) < 2 and submissions[0].tenant_id == "default":
            refusals.append(submissions[0].request_id)
            raise StepwireError(Reason.OVERLOADED, "full", metadata={"limit": "x"})
        return await create(self, submissions)

    monkeypatch.setattr(Creator, "create", create_later)
    await fired.schedules.create("n", ONE_LATE)
    first = await fired.fall_due("n", late=timedelta(0), every=HOUR)

    async def created() -> Sequence[tuple[str, str]]:
        await fired.look()
        return await fired.tasks("n")

    tasks = await eventually(created, WAIT_SECONDS)
    assert [datetime.fromisoformat(time) for time, _ in tasks] == [first]
    assert len(refusals) == 2
    assert len(set(refusals)) == 1
    assert outcomes(await fired.until("n", "STARTED")) == ["STARTED"]


async def test_looking_for_what_is_due_reads_one_index(fired: ScheduleMesh) -> None:
    async with fired.mesh.connection() as connection:
        due = "CASE WHEN place % 2 = 1 THEN now() + place * interval '1 h' END"
        await many(connection, 20_000, due)
        await connection.execute("ANALYZE executor.schedules")
        for statement, arguments in (
            (queries.until_due_schedule, ()),
            (queries.take_due_schedules, (SOME_ID, LEASE, 100)),
        ):
            plan = await _plan(connection, statement, *arguments)
            assert "Index Scan using schedules_due" in plan, plan
            assert "Seq Scan on schedules" not in plan, plan


SOME_ID = "01900000-0000-7000-8000-000000000001"


async def _plan(connection: asyncpg.Connection, statement: str, *arguments: object) -> str:
    rows = await connection.fetch(f"EXPLAIN {statement}", *arguments)
    return "\n".join(row[0] for row in rows)
