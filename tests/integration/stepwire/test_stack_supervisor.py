"""The supervisor with small parts of the tests' own: start, crash, failure, stop."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from stepwire.stack import runner
from stepwire.stack.logs import StackLogs, log_path
from stepwire.stack.mark import ProcessMark, mark_of
from stepwire.stack.part import Part, PartError
from stepwire.stack.ports import free_port
from stepwire.stack.probes import port_open
from stepwire.stack.process import Command
from stepwire.stack.state import PartPhase, Phase, StackState
from stepwire.stack.supervisor import Supervisor
from stepwire.testing.poll import eventually

LISTEN = """
import signal, socket, sys
print("part", sys.argv[1], "begins", flush=True)
server = socket.create_server(("127.0.0.1", int(sys.argv[2])))
while True:
    server.accept()[0].close()
"""
FAIL = "import sys; print('no disk', flush=True); sys.exit(7)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LISTEN


def part(name: str, *, code: str = LISTEN, needs: tuple[str, ...] = (), **more: object) -> Part:
    port = free_port()
    command = Command(
        arguments=(sys.executable, "-c", code, name, str(port)), environment={"PATH": os.defpath}
    )
    fields = {
        "command": lambda: command,
        "is_ready": partial(port_open, port),
        "ports": {"tcp": port},
        **more,
    }
    return Part(name=name, needs=needs, **fields)  # type: ignore[arg-type]


class Stack:
    """A supervisor under test, and all that it reported."""

    def __init__(self, home: Path, *parts: Part) -> None:
        mark = mark_of(os.getpid())
        assert mark is not None
        self.logs = StackLogs(home)
        self.reports: list[StackState] = []
        state = StackState(
            phase=Phase.STARTING, supervisor=mark, port_offset=0, workers=0, broker="", gateway=""
        )
        self.supervisor = Supervisor(parts, logs=self.logs, state=state, report=self.reports.append)

    @property
    def state(self) -> StackState:
        return self.supervisor.state

    def part_pid(self, name: str) -> int:
        found = self.state.part(name)
        assert found is not None
        assert found.pid is not None
        return found.pid

    def order(self, phase: PartPhase) -> list[str]:
        """Returns the parts in the order in which they were first reported in a phase."""
        seen: list[str] = []
        for state in self.reports:
            seen += [p.name for p in state.parts if p.phase is phase and p.name not in seen]
        return seen


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    stacks: list[Stack] = []

    def make(*parts: Part) -> Stack:
        stacks.append(Stack(tmp_path, *parts))
        return stacks[-1]

    yield make
    for made in stacks:
        made.logs.close()


async def ready(made: Stack) -> asyncio.Task[None]:
    task = asyncio.create_task(made.supervisor.run())
    await eventually(lambda: task.done() or made.state.phase is Phase.READY)
    if task.done():
        task.result()
    return task


async def stop(made: Stack, task: asyncio.Task[None]) -> None:
    made.supervisor.request_stop()
    await task


async def test_parts_start_after_their_needs_and_stop_before_them(
    stack: Callable[..., Stack],
) -> None:
    made = stack(part("base"), part("middle", needs=("base",)), part("top", needs=("middle",)))
    task = await ready(made)
    pids = [made.part_pid(name) for name in ("base", "middle", "top")]
    assert made.order(PartPhase.READY) == ["base", "middle", "top"]
    await stop(made, task)
    assert made.order(PartPhase.STOPPED) == ["top", "middle", "base"]
    assert made.state.phase is Phase.STOPPED
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_crashed_part_is_started_again_and_counted(stack: Callable[..., Stack]) -> None:
    made = stack(part("worker"))
    task = await ready(made)
    first = made.part_pid("worker")
    os.kill(first, signal.SIGKILL)
    await eventually(
        lambda: (
            made.state.parts[0].phase is PartPhase.READY
            and made.state.parts[0].pid not in {None, first}
        )
    )
    assert made.state.parts[0].restarts == 1
    assert any("was killed by SIGKILL" in state.parts[0].detail for state in made.reports)
    await stop(made, task)


async def test_a_part_that_fails_at_start_is_named_with_its_last_lines_and_the_rest_stopped(
    stack: Callable[..., Stack], tmp_path: Path
) -> None:
    made = stack(part("good"), part("bad", code=FAIL, needs=("good",)))
    with pytest.raises(PartError) as caught:
        await ready(made)
    assert caught.value.part == "bad"
    assert str(caught.value) == "bad ended with exit code 7 before it was ready"
    assert caught.value.log_lines == ("no disk",)
    assert made.state.phase is Phase.FAILED
    assert [p.phase for p in made.state.parts] == [PartPhase.STOPPED, PartPhase.FAILED]
    assert "no disk" in log_path(tmp_path, "bad").read_text()


async def test_a_part_that_never_answers_fails_and_is_ended(stack: Callable[..., Stack]) -> None:
    async def never() -> bool:
        return False

    made = stack(part("mute", is_ready=never, start_seconds=0.3))
    with pytest.raises(PartError, match=r"mute was not ready within 0\.3 s"):
        await ready(made)
    pids = [p.pid for state in made.reports for p in state.parts if p.pid is not None]
    assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_probe_that_raises_ends_the_start_with_its_message(
    stack: Callable[..., Stack],
) -> None:
    async def refuse() -> bool:
        raise ValueError("the password is wrong")

    with pytest.raises(PartError, match="cannot be used: the password is wrong"):
        await ready(stack(part("broker", is_ready=refuse)))


async def test_a_failing_preparation_is_told(stack: Callable[..., Stack]) -> None:
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(PartError, match="database could not be started: disk full"):
        await ready(stack(part("database", prepare=fail)))


async def test_crashing_too_often_stops_the_stack(
    stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runner, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(runner, "MAX_CRASHES_IN_A_ROW", 2)
    once = tmp_path / "once"
    code = f"import pathlib,sys\np=pathlib.Path({str(once)!r})\np.exists() and sys.exit(9)\n"
    made = stack(part("flaky", code=code + "p.touch()\n" + LISTEN))
    task = await ready(made)
    os.kill(made.part_pid("flaky"), signal.SIGKILL)
    with pytest.raises(PartError, match="it has crashed 3 times in a row"):
        await task
    assert made.state.phase is Phase.FAILED


async def test_a_part_that_ignores_the_signal_is_killed(stack: Callable[..., Stack]) -> None:
    made = stack(part("deaf", code=DEAF, stop_seconds=0.2))
    task = await ready(made)
    pid = made.part_pid("deaf")
    await stop(made, task)
    assert not psutil.pid_exists(pid)
    assert made.state.parts[0].detail == "killed after 0.2 s"


async def test_what_a_part_leaves_behind_ends_with_it(stack: Callable[..., Stack]) -> None:
    code = "import subprocess\nc = subprocess.Popen(['sleep', '1000'])\nprint(c.pid, flush=True)\n"
    made = stack(part("parent", code=code + LISTEN))
    task = await ready(made)
    left = int(made.logs.part("parent").last_lines[0])
    assert psutil.pid_exists(left)
    await stop(made, task)
    await eventually(lambda: mark_of(left) is None)


async def test_stopping_while_a_part_still_starts(stack: Callable[..., Stack]) -> None:
    async def never() -> bool:
        return False

    made = stack(part("slow", is_ready=never), part("next", needs=("slow",)))
    task = asyncio.create_task(made.supervisor.run())
    await eventually(lambda: made.state.parts[0].pid)
    pid = made.part_pid("slow")
    await stop(made, task)
    assert not psutil.pid_exists(pid)
    assert [p.phase for p in made.state.parts] == [PartPhase.STOPPED, PartPhase.STOPPED]


async def test_the_combined_log_has_every_parts_lines(
    stack: Callable[..., Stack], tmp_path: Path
) -> None:
    made = stack(part("one"), part("two"))
    await stop(made, await ready(made))
    text = log_path(tmp_path).read_text()
    assert "one          part one begins" in text
    assert "two          part two begins" in text
    assert "supervisor   one: ready" in text
    assert log_path(tmp_path, "one").read_text() == "part one begins\n"


def test_parts_die_with_a_supervisor_that_is_killed() -> None:
    """The kernel sends the stop signal on the parent's death."""
    code = """
import os, sys
from stepwire.stack.process import Command
child = Command(arguments=("sleep", "1000"), environment=dict(os.environ)).start(1)
os.write(1, f"{child.pid}\\n".encode())
os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=30, check=False
    )
    pid = int(done.stdout.split()[0])
    found = mark_of(pid)
    assert found is None or found.wait(10)


def test_a_recycled_number_is_not_taken_for_the_process() -> None:
    mine = mark_of(os.getpid())
    assert mine is not None
    assert mine.is_alive()
    other = ProcessMark(pid=mine.pid, started=mine.started - 1, boot=mine.boot)
    assert not other.is_alive()
    # Would end this test run if it were sent.
    other.send(signal.SIGKILL)
    assert not ProcessMark(pid=mine.pid, started=mine.started, boot="other").is_alive()
