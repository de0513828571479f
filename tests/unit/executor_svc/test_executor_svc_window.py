"""How much may be published, by what is seen of a queue."""

import pytest

from executor_svc.waking import window as window_module
from executor_svc.waking.window import ADAPT_SECONDS, FEWEST_STEPS, FIRST_STEPS, Window
from stepwire.errors import Reason, StepwireError
from stepwire.testing.poll import eventually

MAX_STEPS = 1000
Q = "default"


class Broker:
    """A queue whose messages are counted by the test."""

    def __init__(self):
        self.messages = 0
        self.looks = 0
        self.away = False

    async def publish(self, refs):
        raise AssertionError("a window publishes nothing")

    async def backlog(self, queue):
        self.looks += 1
        if self.away:
            raise StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "RabbitMQ does not answer")
        return self.messages


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def window(broker, clock, monkeypatch):
    # Only the test looks.
    monkeypatch.setattr(window_module, "LOOK_SECONDS", 3600)
    made = Window(broker, max_steps=MAX_STEPS, max_bundle=1, clock=clock)
    yield made
    made.close()


async def test_what_was_published_counts_until_the_next_look(window, broker):
    assert window.allows(Q, 200)
    assert not window.allows(Q, 100)
    assert window.allows(Q, FIRST_STEPS - 200)
    assert not window.allows(Q, 1)
    broker.messages = 0
    assert await window.room(Q) > FIRST_STEPS
    broker.messages = FIRST_STEPS
    assert await window.room(Q) == FIRST_STEPS


async def test_queues_have_windows_of_their_own(window):
    assert window.allows(Q, FIRST_STEPS)
    assert window.allows("gpu", FIRST_STEPS)


async def test_it_grows_while_workers_empty_the_queue_and_more_waits(window):
    window.hold(Q, behind=True)
    rooms = [await window.room(Q) for _ in range(4)]
    assert rooms == [FIRST_STEPS * 2, MAX_STEPS, MAX_STEPS, MAX_STEPS]


async def test_it_does_not_grow_for_nothing(window):
    assert [await window.room(Q) for _ in range(3)] == [FIRST_STEPS] * 3


async def test_it_shrinks_by_what_is_always_left(window, broker, clock):
    broker.messages = 100
    await window.room(Q)
    clock.now += ADAPT_SECONDS
    await window.room(Q)
    for left in (150, 100, 120):
        broker.messages = left
        await window.room(Q)
    clock.now += ADAPT_SECONDS
    broker.messages = 110
    assert await window.room(Q) == FIRST_STEPS - 100 - 110


async def test_it_never_closes_for_good(window, broker, clock):
    for _ in range(10):
        broker.messages = 500
        await window.room(Q)
        clock.now += ADAPT_SECONDS
    assert await window.room(Q) == 0
    broker.messages = 0
    assert await window.room(Q) == FEWEST_STEPS
    window.hold(Q, behind=True)
    assert await window.room(Q) == 2 * FEWEST_STEPS


async def test_nothing_overtakes_what_waits_in_the_record(window):
    window.hold(Q, behind=True)
    assert not window.allows(Q, 1)
    window.hold(Q, behind=False)
    assert window.allows(Q, 1)


async def test_nothing_is_published_while_rabbitmq_is_away(window, broker):
    broker.away = True
    assert await window.room(Q) == 0
    assert not window.allows(Q, 1)
    assert not await window.is_crowded(Q)
    broker.away = False
    assert await window.room(Q) > 0
    assert window.allows(Q, 1)


async def test_messages_count_for_the_steps_they_carry(broker, clock):
    window = Window(broker, max_steps=MAX_STEPS, max_bundle=64, clock=clock)
    for _ in range(60):
        window.published(Q, 100)
    # Bundles of 13 steps.
    broker.messages = 10
    assert await window.room(Q) == FIRST_STEPS - 130
    window.close()


async def test_a_queue_is_crowded_when_more_waits_than_was_meant_to(window, broker):
    broker.messages = 2 * FIRST_STEPS
    assert not await window.is_crowded(Q)
    broker.messages += 1
    assert await window.is_crowded(Q)


async def test_it_looks_on_by_itself_as_long_as_something_is_published(broker, monkeypatch):
    monkeypatch.setattr(window_module, "LOOK_SECONDS", 0.001)
    window = Window(broker, max_steps=MAX_STEPS, max_bundle=1)
    assert window.allows(Q, FIRST_STEPS)
    await eventually(lambda: window.allows(Q, FIRST_STEPS))
    await eventually(lambda: window._queues[Q].watch is None)
    assert broker.looks >= 2
    window.close()
