"""What the executor and its workers stand on goes away and comes back."""

import asyncio
import logging

import pika

from executor_svc import worker
from executor_svc.store import PostgresStepStore
from executor_svc.work import patience
from stepwire.errors import Reason, StepwireError
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    chain,
    create_request,
    graph,
    output_of,
    python,
    running_mesh,
    state_of,
    steps_of,
    transform,
)
from tests.integration.tcp_gate import gate_to


async def terminate_backends(mesh):
    await mesh.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_tasks_finish_although_all_connections_to_postgres_are_cut(mesh):
    what = graph(
        transform("each", "item + 1", for_each="input"),
        transform("after", "size(value)", depends_on=["each"]),
    )
    async with mesh.worker(reconcile_seconds=0.5), mesh.worker(reconcile_seconds=0.5):
        ids = [await mesh.client.create(what, list(range(50))) for _ in range(10)]
        for _ in range(5):
            await terminate_backends(mesh)
            await mesh.client.call("CreateTask", create_request(chain(1), 1))
        tasks = [await mesh.client.wait(task_id) for task_id in ids]
    assert [output_of(task) for task in tasks] == [50] * 10
    for task in tasks:
        history = await mesh.client.history(task.task_id)
        succeeded = [line for line in history if line.startswith("STEP_SUCCEEDED")]
        assert len(succeeded) == 52, history


async def test_a_result_waits_for_postgres(mesh, tmp_path, caplog):
    """A function that ends while Postgres is away is not run a second time."""
    path, go = tmp_path / "notes", tmp_path / "go"
    async with (
        gate_to(mesh.database_url) as gate,
        mesh.worker(postgres_url=gate.url),
    ):
        task_id = await mesh.client.create(
            graph(python("a", "await_file"), python("b", "note", depends_on=["a"], input="input")),
            {"path": str(path), "awaits": str(go), "result": 1},
        )
        await eventually(lambda: noted(path) == ["a 1"], WAIT_SECONDS)
        await gate.shut()
        go.touch()
        await eventually(lambda: "waiting for the record" in caplog.text, WAIT_SECONDS)
        await gate.open()
        task = await mesh.client.wait(task_id)
    assert state_of(task) == "SUCCEEDED"
    assert noted(path) == ["a 1", "b 1"]


async def test_what_gathers_outlasts_an_outage(mesh, monkeypatch):
    """A step whose items have succeeded does not fail because Postgres was away just then."""
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.01)
    away = []

    def be_away_once(name):
        if name not in away:
            away.append(name)
            raise StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "Postgres is away")

    class Away(PostgresStepStore):
        async def item_endings(self, *arguments, **options):
            be_away_once("item_endings")
            return await super().item_endings(*arguments, **options)

        async def undoable(self, *arguments, **options):
            be_away_once("undoable")
            return await super().undoable(*arguments, **options)

    monkeypatch.setattr(worker, "PostgresStepStore", Away)
    undo = {"python": {"function": "test.echo"}}
    most = {"mode": "JOIN_MODE_AT_LEAST", "at_least": 1}
    what = graph(
        transform("each", "item", for_each="[1]", items_join=most, retry=NO_RETRY),
        transform("kept", "1", depends_on=["each"], compensation=undo),
        python("bad", "fail_permanently", depends_on=["kept"]),
    )
    async with mesh.worker():
        task = await mesh.client.run(what)
    assert (task.failure.step_id, away) == ("bad", ["item_endings", "undoable"])
    assert steps_of(task)["~undo"].attempt == 1


async def test_a_worker_survives_an_outage_longer_than_its_lease(mesh, tmp_path, caplog):
    path, go = tmp_path / "notes", tmp_path / "go"
    async with (
        gate_to(mesh.database_url) as gate,
        mesh.worker(postgres_url=gate.url, lease_seconds=1, renew_seconds=0.1),
    ):
        task_id = await mesh.client.create(
            graph(python("a", "await_file")), {"path": str(path), "awaits": str(go)}
        )
        await eventually(lambda: noted(path)[:1] == ["a 1"], WAIT_SECONDS)
        await gate.shut()
        await eventually(lambda: "the lease has run out" in caplog.text, WAIT_SECONDS)
        await eventually(lambda: noted(path)[-1] == "cancelled", WAIT_SECONDS)
        go.touch()
        await gate.open()
        task = await mesh.client.wait(task_id)
    assert state_of(task) == "SUCCEEDED"
    notes = noted(path)
    # More than one is lost where the machine stands still for longer than a lease.
    assert len(notes) >= 3
    assert notes[::2] == [f"a {number}" for number in range(1, len(notes) // 2 + 2)]
    assert set(notes[1::2]) == {"cancelled"}


async def test_steps_that_could_not_be_claimed_are_woken_again(mesh, caplog):
    async with (
        gate_to(mesh.database_url) as gate,
        mesh.worker(postgres_url=gate.url),
    ):
        await mesh.client.run(chain(1), 1)
        await gate.shut()
        task_id = await mesh.client.create(chain(2), 1)
        await eventually(lambda: "steps were not claimed" in caplog.text, WAIT_SECONDS)
        await gate.open()
        task = await mesh.client.wait(task_id)
    assert output_of(task) == 3
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


async def test_tasks_finish_although_rabbitmq_was_away(
    database_url, rabbitmq_url, mq_namespace, caplog
):
    """Tasks are accepted meanwhile, and run once it is back."""
    caplog.set_level(logging.INFO)
    async with (
        gate_to(rabbitmq_url) as gate,
        running_mesh(database_url, gate.url, mq_namespace) as mesh,
        mesh.worker(),
    ):
        await mesh.client.run(chain(1), 1)
        await gate.shut()
        await eventually(lambda: "RabbitMQ is still away" in caplog.text, WAIT_SECONDS)
        ids = [await mesh.client.create(chain(3), number) for number in range(5)]
        await gate.open()
        tasks = [await mesh.client.wait(task_id) for task_id in ids]
    assert [output_of(task) for task in tasks] == [3, 4, 5, 6, 7]


async def test_tasks_finish_although_the_queue_is_deleted(mesh):
    """A queue that is gone takes its messages with it; workers make it anew."""

    def delete():
        connection = pika.BlockingConnection(pika.URLParameters(mesh.rabbitmq_url))
        connection.channel().queue_delete(mesh.topology.queue("default"))
        connection.close()

    ids = [await mesh.client.create(chain(3), number) for number in range(5)]
    await asyncio.to_thread(delete)
    ids += [await mesh.client.create(chain(3), number) for number in range(5)]
    async with mesh.worker():
        tasks = [await mesh.client.wait(task_id) for task_id in ids]
    assert {state_of(task) for task in tasks} == {"SUCCEEDED"}


async def test_tasks_are_accepted_while_no_worker_is_there(mesh):
    ids = [await mesh.client.create(chain(2), number) for number in range(20)]
    async with mesh.worker():
        tasks = [await mesh.client.wait(task_id) for task_id in ids]
    assert [output_of(task) for task in tasks] == list(range(2, 22))
