from stepwire.api.executor.v1.task_pb2 import TaskEvent, TaskEventType
from stepwire.sdk.tally import Tally


def event(kind: str, step: str = "") -> TaskEvent:
    return TaskEvent(task_id="t", step_id=step, type=TaskEventType.Value(f"TASK_EVENT_TYPE_{kind}"))


def test_steps_run_until_they_succeed_fail_wait_or_are_lost() -> None:
    tally = Tally(total=1)
    for step in ("a", "b", "c", "d", "e"):
        tally.add(event("STEP_STARTED", step))
    assert len(tally.running) == 5
    for kind, step in [
        ("STEP_SUCCEEDED", "a"),
        ("STEP_RETRYING", "b"),
        ("STEP_FAILED", "c"),
        ("STEP_LOST", "d"),
    ]:
        tally.add(event(kind, step))
    assert tally.running == {("t", "e")}
    assert (tally.completed_steps, tally.lost_steps) == (1, 1)


def test_tasks_are_done_however_they_end() -> None:
    tally = Tally(total=4)
    for kind in ("TASK_SUCCEEDED", "TASK_FAILED", "TASK_CANCELLED", "TASK_STARTED"):
        tally.add(event(kind))
    assert (tally.done, tally.succeeded, tally.failed) == (3, 1, 2)
