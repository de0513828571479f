import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepwire.api.executor.v1.task_pb2 import TaskEvent, TaskEventType
from stepwire.demo.crash import CrashError, Killer
from stepwire.sdk.tally import Tally
from stepwire.stack.mark import ProcessMark, mark_of
from stepwire.stack.state import PartState, Phase, StackState, write_state


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    yield process
    process.kill()
    process.communicate()


def write_stack(home: Path, *parts: PartState) -> None:
    own = mark_of(os.getpid())
    assert own is not None
    state = StackState(
        phase=Phase.READY,
        supervisor=own,
        port_offset=0,
        workers=1,
        broker="rabbitmq",
        gateway="127.0.0.1:8080",
        parts=parts,
    )
    write_state(home, state)


def tally(done: int, *, running: bool = True) -> Tally:
    made = Tally(total=10, succeeded=done)
    if running:
        made.add(TaskEvent(task_id="t", type=TaskEventType.TASK_EVENT_TYPE_STEP_STARTED))
    return made


def test_one_worker_dies_in_each_phase_in_the_middle_of_the_work(
    tmp_path: Path, worker: subprocess.Popen[bytes]
) -> None:
    write_stack(tmp_path, PartState(name="worker-1", process=mark_of(worker.pid)))
    killer = Killer(tmp_path, chooser=random.Random(1))
    assert killer.consider("documents", tally(0)) is None, "nothing is done yet"
    assert killer.consider("documents", tally(5, running=False)) is None, "nothing runs"
    assert killer.consider("documents", tally(10)) is None, "all is done"
    assert worker.poll() is None
    kill = killer.consider("documents", tally(5))
    assert kill is not None
    assert (kill.worker, kill.pid, kill.done_tasks) == ("worker-1", worker.pid, 5)
    assert worker.wait() == -9
    assert killer.consider("documents", tally(6)) is None, "one kill is enough"
    assert killer.kills == [kill]


def test_a_stack_without_workers_cannot_be_crashed(tmp_path: Path) -> None:
    with pytest.raises(CrashError, match="no worker process"):
        Killer(tmp_path).workers()
    own = mark_of(os.getpid())
    write_stack(tmp_path, PartState(name="executor", process=own), PartState(name="worker-1"))
    with pytest.raises(CrashError, match="no worker process"):
        Killer(tmp_path).workers()


def test_a_later_process_with_the_same_number_is_left_alone(
    tmp_path: Path, worker: subprocess.Popen[bytes]
) -> None:
    mark = mark_of(worker.pid)
    assert mark is not None
    earlier = ProcessMark(pid=mark.pid, started=mark.started - 1, boot=mark.boot)
    write_stack(tmp_path, PartState(name="worker-1", process=earlier))
    with pytest.raises(CrashError):
        Killer(tmp_path).consider("documents", tally(5))
    assert worker.poll() is None
