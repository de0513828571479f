"""Queues and workers: shown, paused, drained, and told to autoscalers."""

import pytest

from stepwire.errors import Reason
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    chain,
    graph,
    held_steps,
    output_of,
    python,
    refused,
    running_mesh,
    state_of,
    transform,
)
from tests.integration.executor_svc.queue_client import queue_client
from tests.integration.executor_svc.queue_client import state_of as queue_state

# Counts reach the record, and workers hear of a drain, within a quarter of a second.
OFTEN = {"stats_seconds": 0.1, "renew_seconds": 0.25}


@pytest.fixture
async def mesh(database_url, rabbitmq_url, mq_namespace):
    async with running_mesh(database_url, rabbitmq_url, mq_namespace, stats_seconds=0.1) as running:
        yield running


@pytest.fixture
async def queues(mesh):
    async with queue_client(mesh) as client:
        yield client


@pytest.fixture
async def shared_queues(shared_mesh):
    async with queue_client(shared_mesh) as client:
        yield client


async def test_a_backlog_is_seen_and_asks_for_a_worker(mesh, queues):
    for _ in range(5):
        await mesh.client.create(chain(1), 0)
    listed = (await queues.call("ListQueues")).queues
    assert [queue.queue for queue in listed] == ["default", "gpu", "llm"]
    assert [queue_state(queue) for queue in listed] == ["ACTIVE"] * 3

    async def counted():
        return (await queues.queue()).signals.ready == 5

    await eventually(counted)
    found = await queues.queue()
    assert found.signals.oldest_ready_age.ToTimedelta().total_seconds() > 0
    assert (found.signals.workers, found.signals.workers_wanted) == (0, 1)
    assert not found.signals.HasField("service_time")
    other = await queues.queue("llm")
    assert (other.signals.ready, other.signals.workers_wanted) == (0, 0)
    assert not other.signals.HasField("oldest_ready_age")


async def test_what_workers_do_is_told_as_rates(mesh, queues):
    async with mesh.worker(name="w", queues=("default", "llm"), slots=40, **OFTEN):
        what = graph(
            transform("a", "0"),
            transform("b", "steps.a", depends_on=["a"]),
            python("c", "fail", depends_on=["b"], retry={"max_attempts": 1}),
        )
        for _ in range(10):
            assert state_of(await mesh.client.run(what)) == "FAILED"

        async def counted():
            signals = (await queues.queue()).signals
            # Means over 60 to 70 seconds of 30 attempts, a third of which failed.
            assert signals.completion_rate >= 30 / 70
            assert signals.failure_rate == pytest.approx(signals.completion_rate / 3)
            assert signals.arrival_rate == pytest.approx(signals.completion_rate)
            return signals

        signals = await eventually(counted, WAIT_SECONDS)
        assert signals.HasField("time_to_start")
        assert signals.HasField("service_time")
        assert (signals.workers, signals.slots) == (1, 40)
        (worker,) = await queues.workers()
        assert (worker.name, list(worker.queues), worker.slots) == ("w", ["default", "llm"], 40)
        assert worker.version
        assert not worker.draining
        assert (await queues.queue("llm")).signals.workers == 1
        assert (await queues.queue("gpu")).signals.workers == 0


async def test_a_call_that_comes_again_late_neither_pauses_nor_resumes_a_queue(queues):
    async def state(method, request_id):
        return queue_state((await queues.call(method, queue="llm", request_id=request_id)).queue)

    assert await state("PauseQueue", "p") == "PAUSED"
    assert await state("ResumeQueue", "r") == "ACTIVE"
    assert await state("PauseQueue", "p") == "ACTIVE"
    assert await state("DrainQueue", "d") == "PAUSED"
    assert await state("ResumeQueue", "r") == "PAUSED"
    assert await state("ResumeQueue", "r2") == "ACTIVE"
    assert await state("DrainQueue", "d") == "ACTIVE"


async def test_nothing_of_a_paused_queue_starts(mesh, queues):
    async with mesh.worker(**OFTEN):
        paused = (await queues.call("PauseQueue", queue="llm", note="maintenance")).queue
        assert (queue_state(paused), paused.note) == ("PAUSED", "maintenance")
        assert paused.HasField("pause_time")
        waits = await mesh.client.create(graph(transform("a", "1", queue="llm")))
        # Messages of what was created before this task were taken before its own.
        assert output_of(await mesh.client.run(chain(3), 0)) == 3
        assert state_of(await mesh.client.step(waits, "a")) == "READY"
        resumed = (await queues.call("ResumeQueue", queue="llm")).queue
        assert (queue_state(resumed), resumed.note) == ("ACTIVE", "")
        assert output_of(await mesh.client.wait(waits)) == 1


async def test_what_runs_in_a_paused_queue_ends_and_is_not_continued(mesh, queues, tmp_path):
    what, value, path, go = held_steps(tmp_path, 1)
    async with mesh.worker(**OFTEN):
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: "held[0] 1" in noted(path), WAIT_SECONDS)
        paused = (await queues.call("PauseQueue", queue="default")).queue
        assert queue_state(paused) == "DRAINING"
        go.touch()
        await mesh.client.until(task_id, "held[0]", "SUCCEEDED")

        async def is_drained():
            return queue_state(await queues.queue()) == "PAUSED"

        await eventually(is_drained, WAIT_SECONDS)
        task = await mesh.client.get(task_id)
        assert state_of(task) == "RUNNING"
        assert "after" not in [step.step_id for step in task.steps if state_of(step) == "SUCCEEDED"]
        await queues.call("ResumeQueue", queue="default")
        assert output_of(await mesh.client.wait(task_id)) == [0]


async def test_a_drain_waits_until_nothing_runs(mesh, queues, tmp_path):
    what, value, path, go = held_steps(tmp_path, 2)
    async with mesh.worker(**OFTEN):
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: len(noted(path)) == 3, WAIT_SECONDS)
        early = (
            await queues.call("DrainQueue", queue="default", timeout={"nanos": 1_000_000}, note="n")
        ).queue
        assert (queue_state(early), early.signals.running, early.note) == ("DRAINING", 2, "n")
        go.touch()
        late = (await queues.call("DrainQueue", queue="default")).queue
        assert (queue_state(late), late.signals.running) == ("PAUSED", 0)
        await queues.call("ResumeQueue", queue="default")
        assert output_of(await mesh.client.wait(task_id)) == [0, 1]


async def test_a_drained_worker_finishes_and_starts_nothing(mesh, queues, tmp_path, caplog):
    caplog.set_level("INFO")
    what, value, path, go = held_steps(tmp_path, 1)
    async with mesh.worker(name="old", **OFTEN):
        running = await mesh.client.create(what, value)
        await eventually(lambda: "held[0] 1" in noted(path), WAIT_SECONDS)
        (old,) = await queues.workers()
        drained = (await queues.call("DrainWorker", session_id=old.session_id)).worker
        assert drained.draining
        await eventually(lambda: "worker takes nothing new" in caplog.text, WAIT_SECONDS)
        go.touch()
        await mesh.client.until(running, "held[0]", "SUCCEEDED")
        waits = await mesh.client.create(chain(2), 0)

        async def is_idle():
            (worker,) = await queues.workers()
            signals = (await queues.queue()).signals
            return worker.busy_slots == 0 and signals.ready == 2 and signals.workers == 0

        await eventually(is_idle, WAIT_SECONDS)
        async with mesh.worker(name="new", **OFTEN):
            assert output_of(await mesh.client.wait(waits)) == 2
            assert output_of(await mesh.client.wait(running)) == [0]


async def test_scaling_signals_are_for_the_queues_asked_for(mesh, queues):
    async with mesh.worker(queues=("default", "llm"), slots=10, **OFTEN):
        await mesh.client.run(chain(30), 0)

        async def counted():
            return (await queues.queue()).signals.completion_rate > 0

        await eventually(counted, WAIT_SECONDS)
        one = await queues.call("GetScalingSignals", queue="default")
        assert [each.queue for each in one.queues] == ["default"]
        assert one.workers_wanted == one.queues[0].workers_wanted == 1
        assert one.queues[0].slots_wanted > 0
        two = await queues.call("GetScalingSignals", queue="llm", queues=["default", "llm"])
        assert [each.queue for each in two.queues] == ["llm", "default"]
        every = await queues.call("GetScalingSignals", min_workers=3, max_workers=4)
        assert [each.queue for each in every.queues] == ["default", "gpu", "llm"]
        assert every.workers_wanted == 3


async def test_a_shorter_target_wants_more_slots(mesh, queues):
    async with mesh.worker(queues=("default",), **OFTEN):
        await mesh.client.run(chain(30), 0)
    for _ in range(50):
        await mesh.client.create(chain(1), 0)

    async def wanted(seconds):
        target = {"seconds": seconds}
        signals = await queues.call("GetScalingSignals", queue="default", target=target)
        return signals.queues[0]

    async def counted():
        return (await wanted(60)).ready == 50

    await eventually(counted, WAIT_SECONDS)
    hasty, patient = await wanted(1), await wanted(3600)
    assert hasty.slots_wanted > patient.slots_wanted > 0
    backlog = 50 * hasty.service_time.ToTimedelta().total_seconds() / 0.8
    assert hasty.slots_wanted >= backlog * 0.99


async def test_what_is_not_there_is_refused(shared_queues):
    for method in ("GetQueue", "PauseQueue", "ResumeQueue", "DrainQueue", "GetScalingSignals"):
        async with refused() as error:
            await shared_queues.call(method, queue="nowhere")
        assert error().reason is Reason.QUEUE_NOT_FOUND
        assert error().metadata == {"queue": "nowhere"}
    unknown = "018f0000-0000-7000-8000-000000000000"
    async with refused() as error:
        await shared_queues.call("DrainWorker", session_id=unknown)
    assert error().reason is Reason.WORKER_NOT_FOUND
    assert error().metadata == {"session_id": unknown}


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("PauseQueue", {"queue": "llm", "note": "x" * 1001}, "note"),
        ("PauseQueue", {"queue": "llm", "request_id": "x" * 129}, "request_id"),
        ("DrainQueue", {"queue": "llm", "timeout": {"seconds": -1}}, "timeout"),
        ("DrainWorker", {"session_id": "x"}, "session_id"),
        ("GetScalingSignals", {"queues": ["q"] * 101}, "queues"),
        ("GetScalingSignals", {"target": {"nanos": 1_000_000}}, "target"),
        ("GetScalingSignals", {"target": {"seconds": 86401}}, "target"),
        ("GetScalingSignals", {"min_workers": -1}, "min_workers"),
        ("GetScalingSignals", {"min_workers": 2, "max_workers": 1}, "max_workers"),
        ("ListFailedSteps", {"page_size": -1}, "page_size"),
        ("ListFailedSteps", {"filter": {"reason": "x" * 201}}, "filter.reason"),
        ("ReplaySteps", {}, "filter"),
        ("ReplaySteps", {"filter": {}}, "filter"),
        ("ReplaySteps", {"task_ids": ["x"]}, "task_ids[0]"),
        ("ReplaySteps", {"task_ids": ["x"] * 1001}, "task_ids"),
        ("ReplaySteps", {"task_ids": ["x"], "filter": {"queue": "q"}}, "filter"),
        ("ReplaySteps", {"filter": {"queue": "q"}, "page_size": -1}, "page_size"),
        ("ReplaySteps", {"filter": {"queue": "q"}, "request_id": "x" * 81}, "request_id"),
    ],
)
async def test_bad_fields_are_refused(shared_queues, method, fields, field):
    async with refused() as error:
        await shared_queues.call(method, **fields)
    assert error().reason is Reason.FIELD_INVALID
    assert [fault.field for fault in error().faults] == [field]
