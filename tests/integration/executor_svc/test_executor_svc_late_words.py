"""What a worker is told late, twice or not at all about its attempts."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest

from executor_svc import worker
from executor_svc.engine.records import EventBatch, StepRef
from executor_svc.store import PostgresLimitStore, PostgresStepStore, open_record
from executor_svc.store.pool import IDLE_IN_TRANSACTION_SECONDS, UNREAD_SECONDS
from executor_svc.waking.messaging import AmqpEventBus
from executor_svc.work import patience
from stepwire import failpoints
from stepwire.db.pool import CONNECTION_ERRORS
from stepwire.errors import Reason, StepwireError
from stepwire.mq import AmqpConnection
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    graph,
    python,
    state_of,
    steps_of,
    transform,
)
from tests.integration.executor_svc.transition_record import LEASE, RETRYABLE, transition_record

__all__ = ["transition_record"]

SLOW = graph(python("slow", "await_file"))
AWAY = StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "Postgres is away")


@pytest.fixture
def waiting(tmp_path):
    """An input for steps that run until a file is there, their notes, and the file."""
    path, go = tmp_path / "notes", tmp_path / "go"
    return {"path": str(path), "awaits": str(go)}, path, go


@pytest.fixture
def disarm():
    yield
    failpoints.arm("")


@pytest.mark.usefixtures("disarm")
async def test_a_start_is_recorded_once_however_many_answers_are_lost(mesh, monkeypatch, waiting):
    value, _, go = waiting
    calls = []

    class Forgetful(PostgresStepStore):
        async def start(self, *arguments, **options):
            effects = await super().start(*arguments, **options)
            calls.append(effects)
            if len(calls) == 1:
                raise AWAY
            return effects

    monkeypatch.setattr(worker, "PostgresStepStore", Forgetful)
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.0)
    failpoints.arm("start.committed=error")
    async with mesh.worker():
        task_id = await mesh.client.create(SLOW, value)
        await eventually(lambda: len(calls) >= 1, WAIT_SECONDS)
        go.touch()
        assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"
    history = await mesh.client.history(task_id)
    assert history.count("STEP_STARTED slow 1") == 1, history


async def test_a_word_of_a_failure_does_not_stop_the_attempts_of_a_retry(mesh, waiting):
    """A message that comes late, or once more: the task goes on by now."""
    value, path, go = waiting
    timely = graph(python("slow", "await_file"))
    timely.timeout.seconds = 3600
    async with mesh.worker(), AmqpConnection(mesh.rabbitmq_url, name="test") as amqp:
        task_id = await mesh.client.create(timely, value)
        await eventually(lambda: noted(path) == ["slow 1"], WAIT_SECONDS)
        await mesh.fetch("UPDATE executor.deadlines SET deadline = now() - interval '1 s'")
        await eventually(lambda: noted(path) == ["slow 1", "cancelled"], WAIT_SECONDS)
        await mesh.client.retry(task_id)
        await eventually(lambda: "slow 2" in noted(path), WAIT_SECONDS)
        late = EventBatch(UUID(task_id), 4, datetime.now(UTC), '[[4,"",0,{"reason":"late"}]]')
        await AmqpEventBus(amqp, mesh.topology).publish_cancelled([late])
        # What is told behind it has been heard.
        other = await mesh.client.create(SLOW, value)
        await eventually(lambda: noted(path).count("slow 1") == 2, WAIT_SECONDS)
        await mesh.client.cancel(other)
        await eventually(lambda: "cancelled" in noted(path)[3:], WAIT_SECONDS)
        go.touch()
        task = await mesh.client.wait(task_id)
    assert (state_of(task), steps_of(task)["slow"].attempt) == ("SUCCEEDED", 2)
    assert noted(path).count("cancelled") == 2


async def test_an_attempt_is_stopped_although_nobody_told_its_worker(mesh, waiting):
    value, path, _ = waiting
    async with mesh.worker(reconcile_seconds=0.1, reconcile_age_seconds=0.1):
        task_id = await mesh.client.create(SLOW, value)
        await eventually(lambda: noted(path) == ["slow 1"], WAIT_SECONDS)
        await mesh.fetch("SELECT executor.cancel_task_v1($1)", UUID(task_id))
        await eventually(lambda: noted(path) == ["slow 1", "cancelled"], WAIT_SECONDS)


async def test_a_step_is_not_given_back_while_its_claim_is_being_answered(
    mesh, monkeypatch, waiting
):
    value, path, go = waiting
    claimed, looks = [], []

    class Late(PostgresStepStore):
        async def claim(self, *arguments):
            attempts = await super().claim(*arguments)
            claimed.extend(attempts)
            await eventually(lambda: len(looks) >= 2, WAIT_SECONDS)
            return attempts

        async def give_back_unknown(self, *arguments, **options):
            effects = await super().give_back_unknown(*arguments, **options)
            looks.extend(claimed)
            return effects

    monkeypatch.setattr(worker, "PostgresStepStore", Late)
    async with mesh.worker(reconcile_seconds=0.05, reconcile_age_seconds=0.001):
        task_id = await mesh.client.create(SLOW, value)
        await eventually(lambda: noted(path), WAIT_SECONDS)
        go.touch()
        assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"
    assert noted(path) == ["slow 1"]
    assert not any("LOST" in line for line in await mesh.client.history(task_id))


async def test_a_session_that_has_run_out_is_not_renewed(record):
    """Its steps belong to others from then on, whenever these take them."""
    session_id = await record.session()
    assert await record.sessions.renew(session_id, lease=LEASE, busy=0)
    await record.pool.execute(
        "UPDATE executor.worker_sessions SET expires_at = now() - interval '1 ms'"
    )
    assert await record.sessions.renew(session_id, lease=LEASE, busy=0) is None


async def test_an_attempt_that_is_over_reports_nothing_for_the_next_one(record):
    """A function in a thread goes on after its attempt has timed out."""
    compiled, task = await record.task(transform("a", "1"))
    session_id = await record.session()
    await record.run(session_id, compiled, task.task_id, "a", outcome=RETRYABLE)
    await record.wake()
    assert await record.claim(session_id, task.task_id, "a", attempt=2)
    for attempt in (2, 1):
        ref = StepRef(task.task_id, "a", attempt, "default")
        await record.steps.heartbeat(session_id, [(ref, b'"%d"' % attempt)])
    assert await record.pool.fetchval("SELECT heartbeat FROM executor.steps") == b'"2"'


async def test_who_is_frozen_in_a_transaction_holds_up_nobody_for_long(record, database_url):
    _, task = await record.task(transform("a", "1"))
    async with open_record(database_url, application_name="test", max_size=1) as frozen:
        connection = await frozen.acquire()
        await connection.execute("BEGIN")
        await connection.execute("SELECT executor.lock_tasks($1)", [task.task_id])
        async with asyncio.timeout(4 * IDLE_IN_TRANSACTION_SECONDS):
            assert await record.tasks.cancel(task.task_id)
        with pytest.raises(CONNECTION_ERRORS):
            await connection.execute("COMMIT")
        # Nor who does not read what it has asked for.
        async with frozen.acquire() as another:
            assert await another.fetchval("SHOW tcp_user_timeout") == f"{UNREAD_SECONDS}000"


async def test_what_a_lost_session_is_denied_is_not_denied_to_the_next_one(mesh, monkeypatch):
    """Both ask for places in one batch."""
    asked, answered = [], asyncio.Event()

    class Denying(PostgresLimitStore):
        async def acquire(self, session_id, wants):
            asked.append(session_id)
            if session_id != asked[0]:
                return await super().acquire(session_id, wants)
            await answered.wait()
            raise AWAY

    monkeypatch.setattr(worker, "PostgresLimitStore", Denying)
    what = graph(transform("a", "1", limit={"key": "'k'", "max_running": 9}, retry=NO_RETRY))
    running = "SELECT count(*) FROM executor.steps WHERE state = 'RUNNING' AND attempt = $1"

    async def both_run(attempt):
        (row,) = await mesh.fetch(running, attempt)
        return row["count"] == 2

    async with mesh.worker(renew_seconds=0.1):
        tasks = [await mesh.client.create(what)]
        await eventually(lambda: asked, WAIT_SECONDS)
        tasks.append(await mesh.client.create(what))
        await eventually(lambda: both_run(1), WAIT_SECONDS)
        await mesh.fetch("DELETE FROM executor.worker_sessions")
        await eventually(lambda: both_run(2), WAIT_SECONDS)
        answered.set()
        ended = [await mesh.client.wait(task_id) for task_id in tasks]
    assert [state_of(task) for task in ended] == ["SUCCEEDED"] * 2
