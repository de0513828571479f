"""Slots: how much a worker holds."""

import threading

import pytest

from executor_svc.work.slots import Slots

JOIN_SECONDS = 30


def test_room_is_counted():
    slots = Slots(3)
    assert slots.take(2)
    assert slots.used == 2
    slots.free(1)
    assert slots.used == 1


def test_a_bundle_larger_than_the_room_goes_in_whole():
    slots = Slots(3)
    assert slots.take(2)
    assert slots.take(10)
    assert slots.used == 12


def test_taking_waits_until_there_is_room():
    slots = Slots(1)
    slots.take(2)
    taken = threading.Event()

    def take():
        slots.take(1)
        taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    slots.free(1)
    assert not taken.is_set()
    slots.free(1)
    thread.join(JOIN_SECONDS)
    assert taken.is_set()
    assert slots.used == 1


@pytest.mark.parametrize("waiting", [1, 3])
def test_closing_lets_everyone_go(waiting):
    slots = Slots(1)
    slots.take(1)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(slots.take(1))) for _ in range(waiting)
    ]
    for thread in threads:
        thread.start()
    slots.close()
    for thread in threads:
        thread.join(JOIN_SECONDS)
    assert answers == [False] * waiting
    assert slots.used == 1


def test_every_waiter_is_served_in_the_end():
    slots = Slots(2)
    slots.take(2)
    served = []
    threads = [threading.Thread(target=lambda: served.append(slots.take(1))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for _ in range(22):
        slots.free(1)
    for thread in threads:
        thread.join(JOIN_SECONDS)
    assert served == [True] * 20
    assert slots.used == 0


def test_idleness_begins_when_the_last_step_has_ended():
    now = 10.0
    slots = Slots(3, clock=lambda: now)
    now = 12.0
    assert slots.idle_seconds == 2.0
    slots.take(2)
    now = 15.0
    slots.free(1)
    assert slots.idle_seconds == 0.0
    slots.free(1)
    now = 15.5
    assert slots.idle_seconds == 0.5
