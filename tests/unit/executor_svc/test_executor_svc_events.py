"""Events and those who watch them."""

import json
from datetime import UTC, datetime

import pytest

from executor_svc.engine.records import EventBatch
from executor_svc.tasks.events import EventHub, parse_events
from stepwire.errors import Reason, StepwireError
from stepwire.ids import uuid7


def batch(task_id, last_cursor=2, events=((2, "", 0),)):
    return EventBatch(task_id, last_cursor, datetime.now(UTC), json.dumps(events))


def test_cursors_end_at_the_batch_s_own():
    events = parse_events(batch(uuid7(), 7, [(10, "a", 1), (11, "a", 1), (13, "b", 2, {"x": "y"})]))
    assert [event.cursor for event in events] == [5, 6, 7]
    assert [event.type for event in events] == [10, 11, 13]
    assert [event.attempt for event in events] == [1, 1, 2]
    assert [event.detail for event in events] == [{}, {}, {"x": "y"}]


async def test_watchers_get_the_batches_of_their_task():
    hub, mine, other = EventHub(), uuid7(), uuid7()
    async with hub.watch(mine) as first, hub.watch(mine) as second, hub.watch(other) as third:
        hub.deliver([batch(mine), batch(uuid7())])
        assert first.qsize() == second.qsize() == 1
        assert third.empty()


async def test_nothing_is_kept_of_a_watch_that_ended():
    hub, task_id = EventHub(), uuid7()
    async with hub.watch(task_id), hub.watch(task_id):
        hub.deliver([batch(task_id), batch(uuid7())])
    with pytest.raises(RuntimeError):
        async with hub.watch(task_id):
            raise RuntimeError
    assert not hub._watchers


async def test_a_watcher_that_is_far_behind_loses_batches_but_not_the_end():
    hub, task_id = EventHub(max_buffered=3), uuid7()
    async with hub.watch(task_id) as queue:
        hub.deliver([batch(task_id, cursor) for cursor in range(2, 10)])
        assert queue.qsize() == 3
        hub.close()
        assert [queue.get_nowait() for _ in range(4)][-1] is None


async def test_a_closed_hub_refuses_to_watch():
    hub = EventHub()
    hub.close()
    with pytest.raises(StepwireError) as caught:
        async with hub.watch(uuid7()):
            pass
    assert caught.value.reason == Reason.DEPENDENCY_UNAVAILABLE
