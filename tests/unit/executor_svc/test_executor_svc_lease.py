"""A worker's own view of its lease."""

import asyncio
import threading
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from executor_svc.engine.ports import Renewal, WorkerProfile
from executor_svc.work.lease import Lease
from stepwire.testing.poll import eventually

PROFILE = WorkerProfile("w", ("q",), 7, "1.0")


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Store:
    """Grants sessions and renewals, or does not; called by the lease's thread."""

    def __init__(self, clock):
        self.clock = clock
        self.opened = []
        self.draining_at_open = []
        self.closed = []
        self.busy = []
        self.renewals = 0
        self.alive = True
        self.draining = False
        self.fails = False
        self.takes = 0.0
        # How many calls are answered from here on; None for all.
        self.answers = None

    async def answer(self):
        while self.answers == 0:  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.001)
        if self.answers is not None:
            self.answers -= 1

    async def open(self, session_id, profile, *, lease, busy, draining):
        assert profile is PROFILE
        await self.answer()
        self.opened.append(session_id)
        self.draining_at_open.append(draining)

    async def renew(self, session_id, *, lease, busy):
        self.renewals += 1
        self.busy.append(busy)
        await self.answer()
        self.clock.now += self.takes
        if self.fails:
            raise ConnectionError
        return Renewal(self.draining) if self.alive else None

    async def close(self, session_id):
        self.closed.append(session_id)


class Harness:
    def __init__(self, lease_seconds=10.0, margin_seconds=2.0, renew_seconds=0.005):
        self.clock = Clock()
        self.store = Store(self.clock)
        self.lost = []
        self.drained = 0
        self.main = threading.get_ident()
        self.lease = Lease(
            self.open_store,
            PROFILE,
            lease=timedelta(seconds=lease_seconds),
            margin=timedelta(seconds=margin_seconds),
            renew_every=timedelta(seconds=renew_seconds),
            busy=lambda: 3,
            on_lost=self.on_lost,
            on_drain=self.on_drain,
            clock=self.clock,
        )

    @asynccontextmanager
    async def open_store(self):
        yield self.store

    def on_lost(self, session_id):
        assert threading.get_ident() == self.main
        self.lost.append(session_id)

    def on_drain(self):
        assert threading.get_ident() == self.main
        self.drained += 1


@pytest.fixture
async def run():
    """Start leases; they are stopped at the end."""
    started = []

    async def start(**options):
        harness = Harness(**options)
        started.append(harness)
        await harness.lease.start()
        return harness

    yield start
    for harness in started:
        harness.store.answers = None
        await harness.lease.stop()


async def test_renewals_keep_a_session_and_tell_how_busy_the_worker_is(run):
    harness = await run()
    (session_id,) = harness.store.opened
    await eventually(lambda: harness.store.renewals >= 3)
    for _ in range(5):
        harness.clock.now += 7
        renewals = harness.store.renewals
        await eventually(lambda before=renewals: harness.store.renewals >= before + 2)
        assert harness.lease.session_id == session_id
    assert (harness.lost, set(harness.store.busy)) == ([], {3})


async def test_a_session_ends_by_the_clock_before_anybody_has_noticed(run):
    """As after SIGSTOP: whatever runs first finds the session gone."""
    harness = await run(renew_seconds=3600)
    (session_id,) = harness.store.opened
    harness.clock.now = 7.9
    assert harness.lease.session_id == session_id
    harness.lease.check()
    assert harness.lost == []
    harness.clock.now = 8.0
    assert harness.lease.session_id is None
    harness.lease.check()
    assert harness.lost == [session_id]
    harness.lease.check()
    assert harness.lost == [session_id]


async def test_a_lease_counts_from_when_its_renewal_was_asked_for(run):
    harness = await run()
    (session_id,) = harness.store.opened
    harness.store.answers = 0
    before = harness.store.renewals
    # One that is held back, when none that was let through is under way any more.
    await eventually(lambda: harness.store.renewals > before)
    harness.store.takes = 5.0
    harness.store.answers = 1
    await eventually(lambda: harness.clock.now == 5.0)
    # Asked for at 0, answered at 5: it is over at 8, not at 13.
    assert harness.lease.session_id == session_id
    harness.clock.now = 8.0
    assert harness.lease.session_id is None


async def test_a_session_that_is_not_renewed_in_time_is_lost_meanwhile(run):
    """The lease's own thread notices it, whatever it waits for."""
    harness = await run(lease_seconds=0.3, margin_seconds=0.1, renew_seconds=3600)
    harness.clock.now += 1
    await eventually(lambda: harness.lost == harness.store.opened)


async def test_renewals_that_hang_lose_the_session(run):
    harness = await run()
    (session_id,) = harness.store.opened
    await eventually(lambda: harness.store.renewals >= 1)
    harness.store.answers = 0
    harness.clock.now += 8
    await eventually(lambda: harness.lost == [session_id])
    assert harness.lease.session_id is None
    harness.store.answers = None
    await eventually(lambda: len(harness.store.opened) == 2)
    await eventually(lambda: harness.lease.session_id == harness.store.opened[1])


async def test_a_failed_renewal_is_tried_again_before_the_time_is_up(run):
    harness = await run()
    (session_id,) = harness.store.opened
    harness.store.fails = True
    await eventually(lambda: harness.store.renewals >= 3)
    harness.store.fails = False
    harness.clock.now += 7
    renewals = harness.store.renewals
    await eventually(lambda: harness.store.renewals >= renewals + 2)
    harness.clock.now += 7
    assert harness.lease.session_id == session_id
    assert harness.lost == []


async def test_a_session_that_the_record_has_given_up_is_lost(run):
    harness = await run()
    harness.store.alive = False
    await eventually(lambda: len(harness.store.opened) >= 2)
    await eventually(lambda: harness.store.opened[0] in harness.lost)
    assert harness.lease.session_id != harness.store.opened[0]


async def test_a_session_that_was_lost_is_not_renewed_again(run):
    """A renewal that is answered too late does not bring it back."""
    harness = await run(renew_seconds=0.3)
    (session_id,) = harness.store.opened
    harness.store.answers = 0
    harness.clock.now = 7
    await eventually(lambda: harness.store.renewals == 1)
    harness.clock.now = 8
    harness.lease.check()
    assert harness.lost == [session_id]
    harness.store.answers = None
    await eventually(lambda: len(harness.store.opened) == 2)
    await eventually(lambda: harness.lease.session_id == harness.store.opened[1])
    assert harness.lost == [session_id]


async def test_a_worker_is_told_once_to_drain_and_stays_so_in_its_next_session(run):
    harness = await run()
    harness.store.draining = True
    await eventually(lambda: harness.drained == 1)
    renewals = harness.store.renewals
    await eventually(lambda: harness.store.renewals >= renewals + 2)
    assert harness.drained == 1
    harness.store.alive = False
    await eventually(lambda: len(harness.store.opened) >= 2)
    assert harness.store.draining_at_open[:2] == [False, True]


async def test_a_lease_that_ends_is_closed():
    harness = Harness()
    await harness.lease.start()
    await harness.lease.stop()
    assert harness.store.closed == harness.store.opened
