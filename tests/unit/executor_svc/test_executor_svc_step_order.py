"""In which order the steps of a task are shown."""

import random

from executor_svc.engine.records import StepRecord, StepState
from executor_svc.tasks.tasks import in_order


def step(step_id, ordinal, *, scope="", item=None):
    return StepRecord(
        step_id=step_id,
        ordinal=ordinal,
        item=item,
        items=None,
        state=StepState.SUCCEEDED,
        attempt=1,
        queue="default",
        waits_for="",
        due_at=None,
        failure=None,
        started_at=None,
        ended_at=None,
        output=None,
        scope=scope,
    )


ORDER = [
    step("z", 0),
    step("map", 1),
    step("map[0]", 1, item=0),
    step("map[1]", 1, item=1),
    step("map[1]/late", 0, scope="map[1]"),
    step("map[1]/early", 1, scope="map[1]"),
    step("map[2]", 1, item=2),
    step("map[10]", 1, item=10),
    step("agent", 2),
    step("agent/call", 0, scope="agent"),
    step("agent/call[0]", 0, scope="agent", item=0),
    step("agent/call[0]/deep", 0, scope="agent/call[0]"),
    step("agent/next", 1, scope="agent"),
    step("a", 3),
    step("~undo", -1),
    step("~undo/a", 0, scope="~undo"),
]


def test_what_a_step_has_added_follows_it_and_what_undoes_comes_last():
    records = list(ORDER)
    random.Random(1).shuffle(records)
    assert [each.step_id for each in in_order(records)] == [each.step_id for each in ORDER]


def test_no_steps():
    assert list(in_order([])) == []
