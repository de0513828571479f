"""What messages hold."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_svc.engine.records import EventBatch, StepRef
from executor_svc.waking.wire import bundles, decode_events, encode_events, ends_task, read_bundle
from stepwire.ids import uuid7

REFS = st.lists(
    st.builds(
        StepRef,
        st.uuids(),
        st.from_regex(r"[a-z][a-z0-9_]{0,5}(\[[0-9]{1,3}\])?", fullmatch=True),
        st.integers(1, 2**31 - 1),
        st.sampled_from(["default", "llm"]),
    ),
    max_size=50,
)


@given(REFS, st.integers(1, 10))
def test_every_step_travels_once_in_its_queue(refs, max_bundle):
    read = []
    for queue, bundle in bundles(refs, max_bundle=max_bundle):
        assert 1 <= len(bundle) <= max_bundle
        read += read_bundle(orjson.loads(orjson.dumps(bundle)), queue=queue)
    key = str
    assert sorted(read, key=key) == sorted(refs, key=key)


@pytest.mark.parametrize(
    ("steps", "messages"), [(1, 1), (3, 3), (4, 2), (10, 4), (100, 8), (10_000, 157)]
)
def test_few_steps_travel_alone_and_many_together(steps, messages):
    refs = [StepRef(uuid7(), "a", 1, "default") for _ in range(steps)]
    assert len(list(bundles(refs, max_bundle=64))) == messages


ID = str(uuid7())


@pytest.mark.parametrize(
    "bundle",
    [
        None,
        7,
        "text",
        {},
        [None],
        [[]],
        [[ID, "a"]],
        [[ID, "a", 1, 1]],
        [["x", "a", 1]],
        [[ID, 1, 1]],
        [[ID, "a", "1"]],
        [[ID, "a", 1.0]],
        [[ID, "a", 0]],
        [[ID, "a", 2**31]],
        [[ID, "a\0", 1]],
        [[ID, "a", 1], None],
    ],
)
def test_what_is_no_bundle(bundle):
    with pytest.raises(ValueError):
        read_bundle(bundle, queue="default")


def test_events_come_back_as_they_were():
    batches = [
        EventBatch(uuid7(), cursor, datetime(2026, 1, 1, 1, 2, 3, 456789, UTC), f"[{cursor}]")
        for cursor in (1, 2**40)
    ]
    assert decode_events(encode_events(batches)) == batches


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ('[[10,"a",1]]', False),
        ('[[11,"a",1],[3,"",0]]', True),
        ('[[13,"a",1,{"reason":"X"}],[4,"",0,{"reason":"X"}]]', True),
        ('[[5,"",0]]', True),
        ('[[1,"",0]]', False),
        ('[[6,"",0],[13,"[",1]]', False),
    ],
)
def test_which_events_end_a_task(events, ends):
    assert ends_task(EventBatch(uuid7(), 1, datetime.now(UTC), events)) is ends
