from datetime import UTC, datetime, timedelta

from stepwire.api.executor.v1.task_pb2 import StepRun, StepState, Task
from stepwire.demo.latency import Latency, latencies, percentile, step_kinds
from stepwire.ingest.graphs import document_graph

START = datetime(2026, 1, 1, tzinfo=UTC)


def run(step_id: str, seconds: float, state: str = "SUCCEEDED") -> StepRun:
    step = StepRun(step_id=step_id, state=StepState.Value(f"STEP_STATE_{state}"))
    step.start_time.FromDatetime(START)
    step.end_time.FromDatetime(START + timedelta(seconds=seconds))
    return step


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([5.0], 99) == 5.0
    assert percentile([4, 1, 3, 2], 50) == 2
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile(list(range(1, 101)), 100) == 100


def test_the_kinds_come_from_the_graph() -> None:
    kinds = step_kinds(document_graph("c"))
    assert kinds == {
        "split": "python",
        "embed": "embed",
        "upsert": "upsert",
        "note": "transform",
    }


def test_items_count_instead_of_their_step_and_only_completed_steps() -> None:
    task = Task(
        steps=[
            run("split", 1),
            run("embed", 50),
            run("embed[0]", 2),
            run("embed[1]", 4),
            run("upsert", 3),
            run("note", 9, state="FAILED"),
        ]
    )
    kinds = {"split": "python", "embed": "embed", "upsert": "upsert", "note": "python"}
    assert latencies([task], kinds) == [
        Latency("embed", 2, 2.0, 4.0),
        Latency("python", 1, 1.0, 1.0),
        Latency("upsert", 1, 3.0, 3.0),
    ]
