"""What the model speaks of: graphs, how attempts end, steps; and the rules of joins. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stepwire.api.executor.v1.task_pb2 import TaskEventType

MAX_ATTEMPTS = 2
FINAL = ("SUCCEEDED", "FAILED", "CANCELLED")
Event = tuple[str, str, int]


class Join(StrEnum):
    """Which of several steps must succeed."""

    ALL = "ALL"
    ANY = "ANY"
    AT_LEAST = "AT_LEAST"
    ALL_DONE = "ALL_DONE"


class Ending(StrEnum):
    """How an attempt ends."""

    SUCCESS = "success"
    SKIP = "skip"
    FAILURE = "failure"
    PERMANENT_FAILURE = "permanent failure"
    WAIT = "wait"
    DECLINED = "declined"
    ITEMS = "items"
    STEPS = "steps"


class Why(StrEnum):
    """Why an attempt was started."""

    NEW = "new"
    CAME = "what it waited for is over"
    UNSATISFIED = "its join cannot be satisfied"


@dataclass(frozen=True)
class Node:
    """A step of a graph."""

    name: str
    depends_on: tuple[str, ...] = ()
    join: Join = Join.ALL
    at_least: int = 0
    each: bool = False
    items_join: Join = Join.ALL
    items_at_least: int = 0
    max_parallel: int = 0
    waits: str = ""
    may_skip: bool = False


@dataclass(frozen=True)
class End:
    """How a run of an attempt has ended; what it waits for parts an attempt in runs."""

    step_id: str
    attempt: int
    is_first_run: bool
    ending: Ending
    output: bytes | None = None
    items: int = 0
    nodes: tuple[Node, ...] = ()
    announced: bool = False


@dataclass
class Step:
    """A step of a task; `fired` once nothing of the graph keeps it from starting."""

    step_id: str
    ordinal: int
    node: Node
    scope: str = ""
    item: int | None = None
    state: str = "ABSENT"
    fired: bool = False
    begun: bool = False
    why: Why = Why.NEW
    attempt: int = 1
    failures: int = 0
    session: Any = None
    waits_for: str = ""
    output: bytes | None = None

    @property
    def open(self) -> bool:
        return self.state not in (*FINAL, "SKIPPED")


def path_of(scope: str, name: str) -> str:
    return f"{scope}/{name}" if scope else name


def least_of(join: Join, at_least: int, count: int) -> int:
    """How many of `count` steps must succeed."""
    return {Join.ALL: count, Join.ANY: 1, Join.AT_LEAST: at_least, Join.ALL_DONE: 0}[join]


def decide(join: Join, at_least: int, count: int, over: int, succeeded: int) -> bool | None:
    """Whether a join of `count` steps is satisfied; None while that is open."""
    if join is Join.ALL_DONE:
        return True if over == count else None
    least = least_of(join, at_least, count)
    if succeeded >= least:
        return True
    return False if succeeded + count - over < least else None


def event_name(number: int) -> str:
    """The name under which the model logs an event of this type."""
    return TaskEventType.Name(number).removeprefix("TASK_EVENT_TYPE_")
