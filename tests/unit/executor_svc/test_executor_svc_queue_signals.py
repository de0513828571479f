"""How many workers queues want."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_svc.queues.records import (
    Backlog,
    Pause,
    RecentTraffic,
    Snapshot,
    Traffic,
    WorkerRecord,
)
from executor_svc.queues.signals import (
    Aim,
    Load,
    Pool,
    load_of,
    pool_of,
    signals_of,
    slots_wanted,
    workers_wanted,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AIM = Aim(drain_seconds=60, utilisation=0.5)
POOL = Pool(workers=2, slots=20)

loads = st.builds(
    Load,
    ready=st.integers(0, 10**6),
    running=st.integers(0, 10**4),
    arrival_rate=st.floats(0, 10**4),
    service_seconds=st.one_of(st.none(), st.floats(1e-4, 10**4)),
    paused=st.booleans(),
)
pools = st.builds(
    Pool, workers=st.integers(1, 1000), slots=st.integers(1000, 10**6), busy=st.just(0)
)


def load(ready=0, running=0, arrival_rate=0.0, service_seconds=2.0, **fields):
    return Load(ready, running, arrival_rate, service_seconds, **fields)


def worker(queues=("q",), *, slots=10, busy=0, draining=False):
    return WorkerRecord(uuid.uuid4(), "w", queues, slots, busy, "", NOW, NOW, draining)


def snapshot(backlogs=None, traffic=None, pauses=None, workers=()):
    return Snapshot(NOW, backlogs or {}, traffic or {}, pauses or {}, workers)


@pytest.mark.parametrize(
    ("what", "slots"),
    [
        (load(), 0),
        # 120 steps in 60 s are 2 a second, each for 2 s: 4 slots, half of the time idle.
        (load(ready=120), 8),
        # As many arrive as are to be drained.
        (load(ready=120, arrival_rate=2), 16),
        (load(arrival_rate=2), 8),
        (load(ready=120, running=100), 100),
        (load(ready=120, running=3, service_seconds=None), 3),
        (load(ready=120, running=3, paused=True), 3),
    ],
)
def test_slots_wanted(what, slots):
    assert slots_wanted(what, AIM) == slots


@pytest.mark.parametrize(
    ("what", "workers"),
    [
        ([load(ready=120)], 1),
        ([load(ready=150)], 1),
        ([load(ready=151)], 2),
        ([load(ready=100), load(ready=100)], 2),
        ([load()], 0),
        ([load(running=1)], 1),
    ],
)
def test_workers_are_rounded_up_once_for_all_queues(what, workers):
    assert workers_wanted(what, POOL, AIM) == workers


@pytest.mark.parametrize(
    ("what", "pool", "workers"),
    [
        (load(ready=10**6, service_seconds=None), POOL, 2),
        (load(running=1, service_seconds=None), POOL, 2),
        (load(running=1000, service_seconds=None), POOL, 100),
        (load(service_seconds=None), POOL, 0),
        (load(ready=1), Pool(), 1),
        (load(), Pool(), 0),
        (load(ready=1, paused=True), Pool(), 0),
        (load(ready=1, service_seconds=None), Pool(), 1),
    ],
)
def test_what_is_unknown_changes_nothing_but_begins_with_one_worker(what, pool, workers):
    assert workers_wanted([what], pool, AIM) == workers


def test_bounds_are_kept():
    few, many = Aim(60, 0.5, min_workers=3), Aim(60, 0.5, max_workers=5)
    assert workers_wanted([load()], POOL, few) == 3
    assert workers_wanted([load(ready=10**6)], POOL, many) == 5
    assert workers_wanted([load(ready=10**6)], POOL, Aim(60, 0.5)) > 5


@given(loads, pools, st.integers(1, 86400))
def test_more_to_do_never_asks_for_fewer_workers(what, pool, seconds):
    aim = Aim(drain_seconds=seconds)
    more = Load(
        what.ready + 100,
        what.running + 1,
        what.arrival_rate + 1,
        what.service_seconds,
        what.paused,
    )
    assert workers_wanted([more], pool, aim) >= workers_wanted([what], pool, aim)


@given(loads, pools)
def test_the_workers_wanted_have_the_slots_wanted(what, pool):
    workers = workers_wanted([what], pool, Aim())
    assert workers * pool.slots_per_worker >= slots_wanted(what, Aim()) * (1 - 1e-9)
    assert workers >= 0


def test_the_backlog_is_gone_in_time_with_the_workers_wanted():
    """Fluid model: so many slots end so many steps a second, and new ones arrive."""
    what, aim = load(ready=5000, arrival_rate=30, service_seconds=1.5), Aim(60, 1.0)
    pool = Pool(workers=1, slots=10)
    slots = workers_wanted([what], pool, aim) * 10
    left = what.ready + (what.arrival_rate - slots / 1.5) * 60
    assert left <= 0
    fewer = slots - 10
    assert what.ready + (what.arrival_rate - fewer / 1.5) * 60 > 0


def test_signals_of_a_busy_queue():
    traffic = Traffic(
        arrived=120, started=60, finished=30, failed=6, wait_seconds=90, busy_seconds=45
    )
    signals = signals_of(
        snapshot(
            {"q": Backlog(7, 5, 3, NOW - timedelta(seconds=4))},
            {"q": RecentTraffic(traffic, traffic + traffic, MINUTE)},
            workers=[
                worker(slots=10, busy=5),
                worker(("q", "r"), slots=30, busy=1),
                worker(("r",), slots=50),
                worker(slots=70, draining=True),
            ],
        ),
        "q",
        AIM,
    )
    assert (signals.ready, signals.running, signals.waiting) == (7, 5, 3)
    assert signals.oldest_ready_seconds == 4
    assert signals.wait_seconds == 1.5
    assert (signals.arrival_rate, signals.completion_rate, signals.failure_rate) == (2, 0.5, 0.1)
    assert signals.service_seconds == 1.5
    assert signals.pool == Pool(workers=2, slots=40, busy=6)
    assert signals.slots_wanted == pytest.approx((2 + 7 / 60) * 1.5 / 0.5)
    assert signals.workers_wanted == 1


def test_a_queue_without_anything_has_empty_signals():
    signals = signals_of(snapshot(), "q", AIM)
    assert signals.oldest_ready_seconds is None
    assert signals.wait_seconds is None
    assert signals.service_seconds is None
    assert (signals.arrival_rate, signals.slots_wanted, signals.workers_wanted) == (0, 0, 0)


def test_few_attempts_are_judged_by_the_hour():
    few = Traffic(finished=19, busy_seconds=1900)
    hour = Traffic(finished=1000, busy_seconds=2000)
    seen = snapshot(traffic={"q": RecentTraffic(few, hour, MINUTE)})
    assert load_of(seen, "q").service_seconds == 2
    enough = Traffic(finished=20, busy_seconds=2000)
    seen = snapshot(traffic={"q": RecentTraffic(enough, hour, MINUTE)})
    assert load_of(seen, "q").service_seconds == 100


def test_a_paused_queue_wants_no_more_than_it_runs():
    seen = snapshot({"q": Backlog(1000, 4, 0)}, pauses={"q": Pause("", NOW)}, workers=[worker()])
    assert signals_of(seen, "q", AIM).slots_wanted == 4


def test_an_age_is_not_negative():
    seen = snapshot({"q": Backlog(1, 0, 0, NOW + timedelta(seconds=1))})
    assert signals_of(seen, "q", AIM).oldest_ready_seconds == 0


def test_workers_of_several_queues_are_counted_once():
    workers = [worker(("q", "r")), worker(("r",))]
    assert pool_of(workers, ["q", "r"]).workers == 2
