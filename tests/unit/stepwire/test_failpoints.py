"""Failpoints: what is armed, when it fires, what it does."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from stepwire import failpoints
from stepwire.failpoints import Action, FailpointError, failpoint, failpoint_in_thread


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    failpoints.arm("")


def fired(caplog):
    """The places that have fired, with the passing."""
    return [
        (record.failpoint, record.passing)
        for record in caplog.records
        if record.message == failpoints.FIRED
    ]


async def pass_by(place, times=1):
    """Pass a place; return at which passings it raised."""
    raised = []
    for passing in range(1, times + 1):
        try:
            await failpoint(place)
        except FailpointError:
            raised.append(passing)
    return raised


async def test_nothing_happens_at_a_place_that_is_not_armed(caplog):
    await failpoint("a.place")
    failpoints.arm("another.place=error")
    await failpoint("a.place")
    failpoint_in_thread("a.place")
    assert fired(caplog) == []


@pytest.mark.parametrize(
    ("text", "passings"), [("p=error", [1]), ("p=error@3", [3]), ("p=error@3+", [3, 4, 5])]
)
async def test_it_fires_at_the_passing_that_was_asked_for(text, passings, caplog):
    failpoints.arm(text)
    assert await pass_by("p", 5) == passings
    assert fired(caplog) == [("p", passing) for passing in passings]


def test_the_passings_of_threads_and_coroutines_are_counted_together():
    failpoints.arm("p=error@2")
    asyncio.run(failpoint("p"))
    with pytest.raises(FailpointError):
        failpoint_in_thread("p")


async def test_a_delay_holds_up_only_who_passes():
    failpoints.arm("p=delay(0.05)")
    order = []

    async def pass_it():
        await failpoint("p")
        order.append("passed")

    passing = asyncio.create_task(pass_it())
    await asyncio.sleep(0)
    order.append("the loop goes on")
    await passing
    assert order == ["the loop goes on", "passed"]


async def test_a_block_holds_up_the_event_loop():
    failpoints.arm("p=block(0.05)")
    order = []
    asyncio.get_running_loop().call_soon(order.append, "the loop goes on")
    begun = time.monotonic()
    await failpoint("p")
    order.append("passed")
    assert time.monotonic() - begun >= 0.05
    await asyncio.sleep(0)
    assert order == ["passed", "the loop goes on"]


def test_arming_again_forgets_what_was_armed():
    failpoints.arm("p=error")
    failpoints.arm("q=error")
    failpoint_in_thread("p")
    with pytest.raises(FailpointError):
        failpoint_in_thread("q")


def test_a_list_is_read_as_it_is_meant():
    one, other = failpoints.parse(" settle.committed=kill(0.5)@7 ; claim.before=delay(2)@3+ ; ")
    assert (one.place, one.action, one.seconds, one.passing, one.onwards) == (
        *("settle.committed", Action.KILL, 0.5, 7, False),
    )
    assert (other.place, other.action, other.seconds, other.passing, other.onwards) == (
        *("claim.before", Action.DELAY, 2.0, 3, True),
    )
    assert failpoints.parse("") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("settle", "is not a failpoint"),
        ("settle=kill@", "is not a failpoint"),
        ("settle=kill@x", "is not a failpoint"),
        ("settle=explode", "must be one of"),
        ("settle=delay", "needs a time"),
        ("settle=block", "needs a time"),
        ("settle=stop(1)", "takes no time"),
        ("settle=error(1)", "takes no time"),
        ("settle=kill@0", "counted from 1"),
        ("settle=kill; settle=error", "twice"),
    ],
)
def test_a_faulty_list_is_refused_whole(text, why):
    failpoints.arm("p=error")
    with pytest.raises(ValueError, match=why):
        failpoints.arm(text)
    with pytest.raises(FailpointError):
        failpoint_in_thread("p")


KILLED = """
import sys
from stepwire import failpoints
failpoints.arm(sys.argv[1])
failpoints.failpoint_in_thread("p")
print("went on", flush=True)
"""


def start(text):
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, text], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("text", ["p=kill", "p=kill(0.01)"])
def test_a_kill_ends_the_process_and_is_logged_before(text):
    process = start(text)
    output, errors = process.communicate()
    assert (process.returncode, output) == (-signal.SIGKILL, b"")
    assert failpoints.FIRED.encode() in errors


def test_a_stopped_process_can_be_made_to_go_on():
    process = start("p=stop")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate()
    assert (process.returncode, output) == (0, b"went on\n")
