"""What metrics are told of tasks, of the wait of their steps, and of sweeps."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from executor_svc import metrics as module
from executor_svc.engine.ports import Effects
from executor_svc.engine.records import EventBatch
from executor_svc.metrics import SweepMetrics, TaskMetrics
from executor_svc.tasks.tally import Tally
from executor_svc.tasks.task_ids import first_id_at
from tests.unit.stepwire.durations_read import counts, histograms

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
TASK = first_id_at(BEGAN)


@pytest.fixture
def reader(monkeypatch):
    opened = InMemoryMetricReader()
    provider = MeterProvider([opened])
    monkeypatch.setattr(module, "meter", lambda: provider.get_meter("test"))
    yield opened
    provider.shutdown()


def numbers(reader):
    data = reader.get_metrics_data()
    return {
        (metric.name, *point.attributes.values()): point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def batch(events: str, *, seconds: float = 1.0, task_id: UUID = TASK):
    return EventBatch(task_id, 9, BEGAN + timedelta(seconds=seconds), events)


def test_ends_are_counted_by_how_tasks_ended_and_timed_from_their_acceptance(monkeypatch, reader):
    made = histograms(monkeypatch, module)
    tally = Tally(TaskMetrics())
    tally.heard(
        Effects(
            events=[
                batch('[[11,"a",1],[3,"",0]]', seconds=2.0),
                batch('[[13,"a",1,{"x":1}],[4,"",0,{"reason":"STEP_FAILED"}]]', seconds=200.0),
                batch('[[5,"",0]]'),
                batch('[[10,"a",1]]'),
            ]
        )
    )
    duration = made["stepwire.executor.task.duration"]
    assert counts(duration, "stepwire.result") == {
        ("succeeded",): 1,
        ("failed",): 1,
        ("cancelled",): 1,
    }
    assert {values: cell.total_seconds for values, cell in duration.cells()} == {
        ("succeeded",): 2.0,
        ("failed",): 200.0,
        ("cancelled",): 1.0,
    }
    assert numbers(reader) == {("stepwire.executor.steps_retried",): 0}


def test_what_a_failure_says_is_not_taken_for_an_end(monkeypatch, reader):
    made = histograms(monkeypatch, module)
    Tally(TaskMetrics()).heard(
        Effects(events=[batch('[[12,"a",1,{"text":"[3,\\"\\",0]"}],[12,"b",1,{}]]')])
    )
    ends = counts(made["stepwire.executor.task.duration"], "stepwire.result")
    assert ends == {("succeeded",): 0, ("failed",): 0, ("cancelled",): 0}
    assert numbers(reader) == {("stepwire.executor.steps_retried",): 2}


def test_a_sweep_tells_that_it_came_to_its_end_and_what_it_left(reader):
    metrics = SweepMetrics()
    metrics.done(lag=timedelta(seconds=-3))
    assert numbers(reader)["stepwire.executor.timer_lag",] == 0
    metrics.done(lag=timedelta(seconds=3))
    metrics.failed()
    metrics.swept("session", 5)
    assert numbers(reader) == {
        ("stepwire.executor.sweeps", "done"): 2,
        ("stepwire.executor.sweeps", "failed"): 1,
        ("stepwire.executor.timer_lag",): 3.0,
        ("stepwire.executor.steps_swept", "session"): 5,
        ("stepwire.executor.steps_swept", "due"): 0,
        ("stepwire.executor.steps_swept", "expired"): 0,
        ("stepwire.executor.steps_swept", "republish"): 0,
    }
