"""Schedules as their owner sees them: created, read, changed, paused, triggered, refused."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from stepwire.api.executor.v1 import schedule_service_pb2 as pb
from stepwire.errors import Reason
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database
from tests.integration.executor_svc.executor_mesh import graph, python, refused, state_of, transform
from tests.integration.executor_svc.schedule_client import (
    EVERY_SECOND,
    ONCE_A_YEAR,
    ScheduleClient,
    ScheduleMesh,
    config_of,
    outcome_of,
    outcomes,
    running_schedules,
    task_of,
    times,
)
from tests.integration.executor_svc.workflow_client import workflow_client

DECEMBER = datetime(2030, 12, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
async def shared(postgres: PostgresServer, rabbitmq_url: str) -> AsyncIterator[ScheduleMesh]:
    with fresh_database(postgres) as url:
        namespace = f"test-{uuid.uuid4().hex[:12]}"
        async with running_schedules(url, rabbitmq_url, namespace) as mesh:
            yield mesh


@pytest.fixture
def client(shared: ScheduleMesh) -> ScheduleClient:
    """A client as a tenant of the test's own."""
    return shared.schedules.of(f"tenant-{uuid.uuid4().hex[:12]}")


async def test_a_schedule_is_read_as_it_was_created(client: ScheduleClient) -> None:
    config = config_of(
        "30 6 * * MON-FRI",
        "BUFFER_ONE",
        time_zone="Europe/Berlin",
        catch_up_window=timedelta(hours=2),
        max_catch_up=3,
        start_time=DECEMBER,
        end_time=DECEMBER + timedelta(days=5),
        jitter=timedelta(minutes=10),
    )
    created = await client.create("nightly", config, note="of every night")
    assert created.config == config
    assert (created.name, created.note, created.paused) == ("nightly", "of every night", False)
    assert times(created) == [f"2030-12-0{day}T05:30:00Z" for day in (2, 3, 4, 5)]
    assert created.etag
    assert created.HasField("create_time")
    assert await client.get("nightly") == created


async def test_what_is_left_out_is_filled_in(client: ScheduleClient) -> None:
    config = (await client.create("plain")).config
    assert config.time_zone == "UTC"
    assert config.overlap_policy == pb.OVERLAP_POLICY_SKIP
    assert config.catch_up_window.ToTimedelta() == timedelta(minutes=1)
    assert config.max_catch_up == 1
    assert not config.HasField("jitter")


@pytest.mark.parametrize(
    ("zone", "start", "expected"),
    [
        # 2:30 does not exist on 31 March 2030, and comes twice on 27 October.
        (
            "Europe/Berlin",
            datetime(2030, 3, 30, tzinfo=UTC),
            ["2030-03-30T01:30:00Z", "2030-03-31T01:00:00Z", "2030-04-01T00:30:00Z"],
        ),
        (
            "Europe/Berlin",
            datetime(2030, 10, 26, tzinfo=UTC),
            ["2030-10-26T00:30:00Z", "2030-10-27T00:30:00Z", "2030-10-28T01:30:00Z"],
        ),
        # Neither does it on 10 March in New York.
        (
            "America/New_York",
            datetime(2030, 3, 9, tzinfo=UTC),
            ["2030-03-09T07:30:00Z", "2030-03-10T07:00:00Z", "2030-03-11T06:30:00Z"],
        ),
    ],
)
async def test_times_are_those_of_the_time_zone(
    client: ScheduleClient, zone: str, start: datetime, expected: list[str]
) -> None:
    config = config_of("30 2 * * *", time_zone=zone, start_time=start)
    assert times(await client.create("local", config))[:3] == expected


async def test_a_request_that_is_only_checked_leaves_nothing(client: ScheduleClient) -> None:
    config = config_of("0 0 1 12 *", start_time=DECEMBER)
    checked = await client.create("nothing", config, validate_only=True)
    assert times(checked)[:2] == ["2030-12-01T00:00:00Z", "2031-12-01T00:00:00Z"]
    assert (checked.schedule_id, checked.etag) == ("", "")
    assert await client.names() == []


async def test_schedules_are_listed_by_name_and_of_one_tenant(client: ScheduleClient) -> None:
    for name in ("c", "a", "b", "e", "d"):
        await client.create(name)
    assert await client.names() == ["a", "b", "c", "d", "e"]
    assert await client.of("somebody-else").names() == []
    async with refused() as error:
        await client.of("somebody-else").get("a")
    assert (error().reason, error().metadata) == (Reason.SCHEDULE_NOT_FOUND, {"schedule": "a"})
    (first, *_) = (await client.call("ListSchedules", pb.ListSchedulesRequest())).schedules
    assert first.config.cron == ONCE_A_YEAR
    assert len(first.next_times) == 1
    assert not first.config.HasField("task")


async def test_a_page_token_of_another_tenant_is_refused(client: ScheduleClient) -> None:
    for name in ("a", "b"):
        await client.create(name)
    page = await client.call("ListSchedules", pb.ListSchedulesRequest(page_size=1))
    async with refused() as error:
        await client.of("somebody-else").call(
            "ListSchedules", pb.ListSchedulesRequest(page_token=page.next_page_token)
        )
    assert error().reason is Reason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize(
    ("name", "config", "field", "text"),
    [
        ("Nightly", config_of(), "name", "lower-case"),
        ("", config_of(), "name", "lower-case"),
        ("n", config_of(""), "config.cron", "must be set"),
        ("n", config_of("61 * * * *"), "config.cron", "0 to 59"),
        ("n", config_of(time_zone="Berlin"), "config.time_zone", "time zone"),
        ("n", pb.ScheduleConfig(cron=ONCE_A_YEAR), "config.task", "a graph or a workflow"),
        ("n", config_of(task=task_of(request_id="r")), "config.task.request_id", "unset"),
        ("n", config_of(task=task_of(validate_only=True)), "config.task.validate_only", "unset"),
        (
            "n",
            config_of(task=task_of(graph(transform("a", "input", queue="none")))),
            "config.task.graph.steps[0].queue",
            "none",
        ),
        (
            "n",
            config_of(task=task_of(labels={f"k{place}": "" for place in range(15)})),
            "config.task.labels",
            "14",
        ),
        (
            "n",
            config_of(task=task_of(labels={"stepwire.schedule": "x"})),
            "config.task.labels['stepwire.schedule']",
            "set by the server",
        ),
        (
            "n",
            config_of(catch_up_window=timedelta(seconds=9)),
            "config.catch_up_window",
            "from 10 s to 400 days",
        ),
        ("n", config_of(max_catch_up=101), "config.max_catch_up", "100"),
        ("n", config_of(jitter=timedelta(days=2)), "config.jitter", "1 day"),
        ("n", config_of(jitter=timedelta(days=-1)), "config.jitter", "1 day"),
        (
            "n",
            config_of(start_time=DECEMBER, end_time=DECEMBER - timedelta(days=1)),
            "config.end_time",
            "before",
        ),
        (
            "n",
            config_of(end_time=datetime(2020, 1, 1, tzinfo=UTC)),
            "config.end_time",
            "never fire",
        ),
    ],
)
async def test_a_bad_schedule_is_refused_with_its_field(
    client: ScheduleClient, name: str, config: pb.ScheduleConfig, field: str, text: str
) -> None:
    async with refused() as error:
        await client.create(name, config)
    assert error().reason is Reason.FIELD_INVALID
    assert [fault.field for fault in error().faults] == [field]
    assert text in error().faults[0].description


async def test_an_expression_that_fires_too_often_is_refused(
    database_url: str, rabbitmq_url: str, mq_namespace: str
) -> None:
    async with running_schedules(
        database_url, rabbitmq_url, mq_namespace, schedule_min_interval_seconds=600, max_schedules=1
    ) as mesh:
        async with refused() as error:
            await mesh.schedules.create("n", config_of("*/9 * * * *"))
        assert error().faults[0].field == "config.cron"
        assert "every 360 s; the shortest interval is 600 s" in error().message
        await mesh.schedules.create("one")
        async with refused() as error:
            await mesh.schedules.create("two")
        assert "has 1 schedules already" in error().message


async def test_a_name_is_given_once(client: ScheduleClient) -> None:
    await client.create("n")
    async with refused() as error:
        await client.create("n")
    assert (error().reason, error().metadata) == (Reason.SCHEDULE_EXISTS, {"schedule": "n"})
    await client.of("somebody-else").create("n")
    await client.of("somebody-else").delete("n")


async def test_a_repeated_call_is_carried_out_once(client: ScheduleClient) -> None:
    created = await client.create("n", request_id="create")
    assert await client.create("n", request_id="create") == created
    async with refused() as error:
        await client.create("n", config_of("@daily"), request_id="create")
    assert error().reason is Reason.REQUEST_ID_REUSED
    await client.pause("n", request_id="pause")
    resumed = await client.resume("n", request_id="resume")
    assert await client.pause("n", request_id="pause") == resumed, "not paused again"
    updated = await client.update("n", config_of("@daily"), ["cron"], request_id="update")
    again = await client.update("n", config_of("@daily"), ["cron"], request_id="update")
    assert again.etag == updated.etag
    run = await client.trigger("n", request_id="trigger")
    assert await client.trigger("n", request_id="trigger") == run
    assert (await client.get("n")).last_task_id == run.task_id
    await client.delete("n", request_id="delete")
    await client.delete("n", request_id="delete")
    async with refused() as error:
        await client.delete("n", request_id="delete-again")
    assert error().reason is Reason.SCHEDULE_NOT_FOUND


async def test_after_a_day_a_request_id_means_another_call(
    shared: ScheduleMesh, client: ScheduleClient
) -> None:
    await client.create("n", config_of(policy="ALLOW"))
    run = await client.trigger("n", request_id="trigger")
    await client.pause("n", request_id="pause")
    await client.resume("n")
    await shared.mesh.fetch(
        "UPDATE executor.schedule_requests SET created_at = created_at - interval '1 day'"
        " WHERE tenant_id = $1",
        client.tenant,
    )
    assert (await client.pause("n", request_id="pause")).paused
    again = await client.trigger("n", request_id="trigger")
    assert again.task_id != run.task_id
    assert (await client.get("n")).last_task_id == again.task_id


async def test_a_mask_says_what_changes(client: ScheduleClient) -> None:
    config = config_of("@daily", "ALLOW", start_time=DECEMBER, max_catch_up=7)
    created = await client.create("n", config)
    updated = await client.update(
        "n", config_of("@hourly", max_catch_up=9), ["cron", "start_time"], etag=created.etag
    )
    expected = config_of("@hourly", "ALLOW", max_catch_up=7, time_zone="UTC")
    expected.catch_up_window.FromTimedelta(timedelta(minutes=1))
    assert updated.config == expected
    assert updated.etag != created.etag
    assert updated.next_times[0].ToDatetime() < datetime(2030, 1, 1)  # noqa: DTZ001
    whole = await client.update("n", config_of("@weekly"))
    assert (whole.config.cron, whole.config.max_catch_up) == ("@weekly", 1)
    assert whole.config.overlap_policy == pb.OVERLAP_POLICY_SKIP


async def test_times_stay_where_only_something_else_changes(client: ScheduleClient) -> None:
    created = await client.create("n", config_of("@daily"))
    other = config_of(task=task_of(graph(transform("b", "1"))))
    updated = await client.update("n", other, ["task"])
    assert updated.config.task.graph.steps[0].name == "b"
    assert times(updated) == times(created)
    assert (await client.update("n", other, ["task"])).etag == updated.etag, "nothing changed"


async def test_a_change_over_another_is_refused(client: ScheduleClient) -> None:
    old = await client.create("n")
    new = await client.update("n", config_of("@daily"), ["cron"], etag=old.etag)
    for change in (
        lambda: client.update("n", config_of("@hourly"), ["cron"], etag=old.etag),
        lambda: client.delete("n", etag=old.etag),
    ):
        async with refused() as error:
            await change()
        assert error().reason is Reason.SCHEDULE_CHANGED
        assert error().metadata == {"schedule": "n", "etag": new.etag}
    assert (await client.get("n")).config.cron == "@daily"
    await client.delete("n", etag=new.etag)


@pytest.mark.parametrize(
    ("config", "mask", "field"),
    [
        (config_of(), ["name"], "update_mask"),
        (config_of("60 * * * *"), ["cron"], "config.cron"),
        (config_of(time_zone="x"), ["time_zone"], "config.time_zone"),
        (pb.ScheduleConfig(), ["task"], "config.task"),
        (
            config_of(task=task_of(graph(transform("a", "((")))),
            ["task"],
            "config.task.graph.steps[0].transform.expression",
        ),
    ],
)
async def test_a_bad_change_is_refused(
    client: ScheduleClient, config: pb.ScheduleConfig, mask: list[str], field: str
) -> None:
    created = await client.create("n")
    async with refused() as error:
        await client.update("n", config, mask)
    assert error().metadata["field"] == field
    assert await client.get("n") == created


async def test_a_trigger_fires_at_once_even_while_paused(client: ScheduleClient) -> None:
    created = await client.create("n", paused=True, note="not yet")
    assert times(created) == []
    run = await client.trigger("n")
    assert (outcome_of(run), run.triggered) == ("STARTED", True)
    found = await client.get("n")
    assert list(found.recent_runs) == [run]
    assert found.paused
    # The task has not ended, since there is no worker.
    assert outcome_of(await client.trigger("n")) == "SKIPPED"
    other = await client.trigger("n", "ALLOW")
    assert outcome_of(other) == "STARTED"
    assert other.task_id != run.task_id


async def test_a_trigger_that_cannot_wait_is_refused(client: ScheduleClient) -> None:
    await client.create("n")
    async with refused() as error:
        await client.trigger("n", "BUFFER_ONE")
    assert error().metadata["field"] == "overlap_policy"
    assert outcome_of(await client.trigger("n")) == "STARTED", "it is not held any more"


async def test_a_paused_schedule_buffers_nothing(client: ScheduleClient) -> None:
    await client.create("n", config_of(ONCE_A_YEAR, "BUFFER_ONE"))
    await client.trigger("n")
    assert outcome_of(await client.trigger("n")) == "BUFFERED"
    assert (await client.get("n")).HasField("buffered_time")
    paused = await client.pause("n", note="because")
    assert outcomes(paused) == ["STARTED", "DROPPED"]
    assert (paused.note, paused.HasField("buffered_time")) == ("because", False)
    assert outcome_of(await client.trigger("n")) == "SKIPPED"


async def test_a_policy_without_buffer_drops_what_waits(client: ScheduleClient) -> None:
    await client.create("n", config_of(ONCE_A_YEAR, "BUFFER_ONE"))
    await client.trigger("n")
    await client.trigger("n")
    changed = await client.update("n", config_of(ONCE_A_YEAR, "ALLOW"), ["overlap_policy"])
    assert outcomes(changed) == ["STARTED", "DROPPED"]


async def test_a_version_that_a_schedule_names_stays_what_it_is(
    shared: ScheduleMesh, client: ScheduleClient
) -> None:
    async with workflow_client(shared.mesh.server.address, client.tenant) as workflows:
        await workflows.register("w", graph(transform("one", "1")), "v1")
        pinned = task_of()
        pinned.workflow.name, pinned.workflow.version = "w", "v1"
        await client.create("checked", config_of(task=pinned), validate_only=True)
        await workflows.register("w", graph(transform("two", "2")), "v1")
        await client.create("pinned", config_of(task=pinned))
        async with refused() as error:
            await workflows.register("w", graph(transform("three", "3")), "v1")
        assert error().reason is Reason.WORKFLOW_VERSION_EXISTS
        newest = task_of()
        newest.workflow.name = "w"
        await client.create("newest", config_of(task=newest))
        await workflows.register("w", graph(transform("four", "4")), "v2")
        for name, version in (("pinned", "v1"), ("newest", "v2")):
            run = await client.trigger(name)
            task = await shared.mesh.client.of(client.tenant).get(run.task_id)
            assert (task.workflow.name, task.workflow.version) == ("w", version)
        missing = task_of()
        missing.workflow.name = "x"
        async with refused() as error:
            await client.create("missing", config_of(task=missing))
        assert error().reason is Reason.WORKFLOW_NOT_FOUND


async def test_a_repeated_call_is_answered_though_it_would_be_refused_by_now(
    shared: ScheduleMesh, client: ScheduleClient
) -> None:
    async with workflow_client(shared.mesh.server.address, client.tenant) as workflows:
        await workflows.register("w", graph(transform("one", "1")), "v1")
        task = task_of()
        task.workflow.name = "w"
        await client.create("other")
        await client.create("n", config_of(task=task), request_id="create")
        updated = await client.update("other", config_of(task=task), ["task"], request_id="update")
        await workflows.deprecate("w", "v1")
        assert (await client.create("n", config_of(task=task), request_id="create")).name == "n"
        again = await client.update("other", config_of(task=task), ["task"], request_id="update")
        assert again == updated
        async with refused() as error:
            await client.create("m", config_of(task=task), request_id="another")
        assert error().reason is Reason.WORKFLOW_VERSION_DEPRECATED


async def test_a_schedule_fires_and_its_tasks_run(shared: ScheduleMesh) -> None:
    schedules = shared.schedules
    what = task_of(graph(python("a", "echo")), labels={"mine": "1"})
    what.input.json.struct_value.fields["n"].number_value = 3
    async with shared.mesh.worker():
        await schedules.create("often", config_of(EVERY_SECOND, "ALLOW", task=what))

        async def two() -> pb.Schedule | None:
            found = await schedules.get("often")
            return found if outcomes(found).count("STARTED") >= 2 else None

        found = await eventually(two, 30)
        assert found is not None
        await schedules.delete("often")
        # One is missed where the machine stands still for longer than a second.
        for run in (each for each in found.recent_runs if outcome_of(each) == "STARTED"):
            task = await shared.mesh.client.wait(run.task_id)
            assert state_of(task) == "SUCCEEDED"
            assert dict(task.labels) == {
                "mine": "1",
                "stepwire.schedule": "often",
                "stepwire.scheduled_time": run.nominal_time.ToJsonString(),
            }


async def test_a_paused_schedule_does_not_fire_and_a_resumed_one_makes_nothing_up(
    shared: ScheduleMesh,
) -> None:
    schedules = shared.schedules
    await schedules.create("held", config_of(EVERY_SECOND, "ALLOW", max_catch_up=100))
    await eventually(lambda: shared.tasks("held"), 30)
    paused = await schedules.pause("held")
    before = await shared.tasks("held")
    assert times(paused) == []
    # Others fire meanwhile.
    await schedules.create("other", config_of(EVERY_SECOND, "ALLOW"))

    async def fired(name: str, count: int) -> bool:
        return len(await shared.tasks(name)) >= count

    await eventually(lambda: fired("other", 2), 30)
    assert await shared.tasks("held") == before
    assert outcomes(await schedules.get("held")) == outcomes(paused)
    moment = datetime.now(UTC)
    resumed = await schedules.resume("held", note="again")
    assert (resumed.note, resumed.paused) == ("again", False)
    await eventually(lambda: fired("held", len(before) + 2), 30)
    await schedules.delete("held")
    await schedules.delete("other")
    after = [time for time, _ in await shared.tasks("held")][len(before) :]
    # What the pause has kept back is not made up for.
    assert min(map(datetime.fromisoformat, after)) > moment
    assert outcomes(resumed) == outcomes(paused)
