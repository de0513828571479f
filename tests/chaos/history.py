"""What happened in a run, as its parts told it: plain values, to be judged by the oracles."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.intents import StepIntent, TaskIntent
from tests.chaos.ledger import Execution


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a task.

    Attributes:
        type: as in TaskEventType, without its prefix.
        at: when it was recorded, in seconds of Postgres' clock; not compared.
    """

    cursor: int
    type: str
    step: str = ""
    attempt: int = 0
    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class StepEnd:
    """A step as the record has it in the end; `output` only if it SUCCEEDED."""

    step: str
    state: str
    attempt: int
    output: Any = None


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """A task as the record has it in the end."""

    state: str
    last_cursor: int
    steps: tuple[StepEnd, ...]
    events: tuple[Event, ...]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """What one watcher was shown, however often it had to come back.

    Attributes:
        after: the cursor behind which it began.
        ended: whether the last stream ended by itself.
    """

    after: int
    events: tuple[Event, ...]
    ended: bool


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """What was asked of a task, answered, seen, and recorded.

    Attributes:
        intent: what was asked; of a subtask, what its parent's step asks for.
        parent_step: the step that has started it; empty for what was sent.
        answers: the task ids with which its request was answered, one per answer.
        unanswered: senders that got no answer until the run's end.
        refusals: refusals that the task's owner met and that nothing explains.
        cancelled: the cursor that CancelTask's answer named; None without such an answer.
        watches: what its watchers saw.
        end: what the record says; None if it does not know the task.
        recorded: ids of all tasks that the record has for the request, or for the step.
    """

    intent: TaskIntent
    answers: tuple[str, ...] = ()
    parent_step: str = ""
    unanswered: int = 0
    refusals: tuple[str, ...] = ()
    cancelled: int | None = None
    watches: tuple[Watch, ...] = ()
    end: TaskEnd | None = None
    recorded: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How violations name the task."""
        ids = ", ".join(sorted({*self.answers, *self.recorded})) or "no id"
        return f"{self.intent.request_id}{self.parent_step and '/'}{self.parent_step} ({ids})"


@dataclass(frozen=True, slots=True)
class Block:
    """A time in which a process's event loop stood still, and nothing else went wrong.

    Attributes:
        pid: the process.
        begun, ended: by the monotonic clock.
        at: `begun` by the time of day.
    """

    pid: int
    begun: float
    ended: float
    at: float


@dataclass(frozen=True, slots=True)
class Halt:
    """When a process was stopped by SIGSTOP, or ended, by the monotonic clock."""

    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class History:
    """A whole run.

    Attributes:
        executions: what the ledgers say, in the order in which they began.
        blocks: event loops that were blocked.
        halts: when processes stopped and ended.
    """

    tasks: tuple[TaskHistory, ...]
    executions: tuple[Execution, ...]
    blocks: tuple[Block, ...] = ()
    halts: tuple[Halt, ...] = ()

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), "utf-8")


def load(path: Path) -> History:
    """Read what `save` wrote."""
    data = json.loads(path.read_text("utf-8"))
    return History(
        tasks=tuple(_task(each) for each in data["tasks"]),
        executions=tuple(
            Execution(**{**each, "saw": tuple(each["saw"])}) for each in data["executions"]
        ),
        blocks=tuple(Block(**each) for each in data["blocks"]),
        halts=tuple(Halt(**each) for each in data["halts"]),
    )


def _task(data: dict[str, Any]) -> TaskHistory:
    end = data["end"]
    return TaskHistory(
        intent=_intent(data["intent"]),
        answers=tuple(data["answers"]),
        parent_step=data["parent_step"],
        unanswered=data["unanswered"],
        refusals=tuple(data["refusals"]),
        cancelled=data["cancelled"],
        watches=tuple(
            Watch(each["after"], _events(each["events"]), each["ended"]) for each in data["watches"]
        ),
        end=None
        if end is None
        else TaskEnd(
            state=end["state"],
            last_cursor=end["last_cursor"],
            steps=tuple(StepEnd(**each) for each in end["steps"]),
            events=_events(end["events"]),
            failure=end["failure"],
        ),
        recorded=tuple(data["recorded"]),
    )


def _intent(data: dict[str, Any]) -> TaskIntent:
    tuples = {name: tuple(data[name]) for name in ("items", "ends")}
    concurrency = data["concurrency"] and tuple(data["concurrency"])
    steps = tuple(_step_intent(each) for each in data["steps"])
    return TaskIntent(**{**data, **tuples, "steps": steps, "concurrency": concurrency})


def _step_intent(data: dict[str, Any]) -> StepIntent:
    changes = {
        "depends_on": tuple(data["depends_on"]),
        "limit": data["limit"] and tuple(data["limit"]),
        "inner": tuple(_step_intent(each) for each in data["inner"]),
    }
    return StepIntent(**{**data, **changes})


def _events(data: Sequence[dict[str, Any]]) -> tuple[Event, ...]:
    return tuple(Event(**each) for each in data)
