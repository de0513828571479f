"""What the executor's domain needs of the world."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from executor_svc.engine.records import (
    Attempt,
    Blob,
    Done,
    EventBatch,
    StepAddress,
    StepRef,
    StepState,
)
from executor_svc.engine.state_machine import Settlement
from executor_svc.graphs.graph import Graph

RequestKey = tuple[str, str | None]
"""Tenant and request_id; without a request_id the task has no key of its own."""


@dataclass(frozen=True, slots=True)
class Existing:
    """The task that a request_id belongs to already, and what was asked for then."""

    task_id: UUID
    digest: bytes


@dataclass(frozen=True, slots=True)
class Effects:
    """What a transition asks for after its commit.

    Attributes:
        ready: steps to publish.
        events: events to send.
        released: limits, by tenant and key, under which a place has become free.
        notices: whether there are notices to carry out.
    """

    ready: Sequence[StepRef] = ()
    events: Sequence[EventBatch] = ()
    released: Sequence[tuple[str, str]] = ()
    notices: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of settlements.

    Attributes:
        accepted: for each, whether it was recorded; False when its attempt no longer ran the
            step.
        started: steps that follow, claimed for the same session.
    """

    accepted: Sequence[bool]
    started: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class Want:
    """A place under a limit that an attempt needs before it runs; 0 is no bound."""

    attempt: Attempt
    key: str
    max_running: int
    max_starts: int
    period: timedelta


class StepStore(Protocol):
    """Gives steps to workers and records what came of them."""

    async def claim(self, session_id: UUID, refs: Sequence[StepRef]) -> Sequence[Attempt]:
        """Claim ready steps; those that are not to be run (any more) are left out."""

    async def start(
        self, session_id: UUID, attempts: Sequence[Attempt], *, again: bool = False
    ) -> Effects:
        """Record that attempts have started, of those that take their time.

        With `again`, only of those of which it is not recorded yet.
        """

    async def still_runs(self, session_id: UUID, attempts: Sequence[Attempt]) -> Sequence[bool]:
        """Return of each attempt whether the session runs it, by the record."""

    async def settle(
        self, session_id: UUID, settlements: Sequence[Settlement], *, publish: bool = True
    ) -> tuple[Settled, Effects]:
        """Record how attempts ended, all in one commit.

        Unless `publish`, the steps that this makes ready wait in the record to be published.
        """

    async def heartbeat(self, session_id: UUID, beats: Sequence[tuple[StepRef, bytes]]) -> None:
        """Keep what attempts report of themselves, as JSON."""

    async def give_back_unknown(
        self,
        session_id: UUID,
        known: Callable[[], Collection[StepAddress]],
        *,
        older_than: timedelta,
    ) -> Effects:
        """Make ready again what the session is recorded to run, but is not known to run.

        What is `known` is asked for behind the look at the record.
        """

    async def outputs(self, wanted: Sequence[StepAddress]) -> Sequence[Blob | None]:
        """Return outputs of steps that have succeeded, None for others.

        That of a for_each step is the list of its items'.
        """

    async def endings(self, task_id: UUID, *, scope: str | None) -> Mapping[str, StepState]:
        """Return how the steps of a task's graph stand, or those that the step `scope` added."""

    async def item_endings(self, step: StepAddress) -> Sequence[StepState]:
        """Return how the items of a step stand."""

    async def collected_bytes(self, step: StepAddress) -> int:
        """Return how large the outputs of the items of a step are together."""

    async def undoable(self, task_id: UUID) -> Sequence[Done] | None:
        """Return what has succeeded in a task, last ended first; None while a step runs."""

    async def added_input(self, step: StepAddress) -> bytes:
        """Return the input of the graph that a step has added, as JSON."""

    async def queues(self) -> Collection[str]:
        """Return the queues that there are; empty where no executor has said so yet."""

    async def add_graph(self, graph: Graph) -> None:
        """Store a graph that a step adds."""

    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        """Return a graph's canonical encoding."""


class LimitStore(Protocol):
    """Keeps limits, cluster-wide."""

    async def acquire(
        self, session_id: UUID, wants: Sequence[Want]
    ) -> tuple[Sequence[bool], Effects]:
        """Take places for attempts that the session runs.

        False for an attempt whose step waits from now on: it is no longer the session's.
        """

    async def admit(self, limits: Sequence[tuple[str, str]]) -> Effects:
        """Give free places to those that wait, by tenant and key."""


@dataclass(frozen=True, slots=True)
class ExpiredStep:
    """A step whose schedule_to_close is over, and the graph that says what this means."""

    ref: StepRef
    graph_hash: bytes


class ExpiryStore(Protocol):
    """Finds and ends steps that have waited for a worker for too long."""

    async def expired(self, without: Collection[bytes]) -> Sequence[ExpiredStep]:
        """Return some of them, longest expired first, but none of the graphs `without`."""

    async def expire(
        self, steps: Sequence[StepRef], decide: Callable[[Attempt], Settlement]
    ) -> tuple[int, Effects]:
        """Settle those that nobody else has in hand, all in one commit; return how many."""

    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        """Return a graph's canonical encoding."""


class SweepStore(Protocol):
    """Finds what nothing else would wake."""

    async def lose_orphans(self) -> Effects:
        """Give back the steps of sessions whose lease has run out."""

    async def wake_due(self) -> Effects:
        """Make ready the steps whose wait is over by the clock."""

    async def expire_tasks(self) -> Effects:
        """Fail the tasks whose deadline has passed."""

    async def republish(self, patience: Mapping[str, timedelta]) -> Effects:
        """Return steps that have stayed ready too long.

        `patience` has the queues to look into, and for each how long a step of it must be
        overdue.
        """

    async def next_due(self) -> datetime | None:
        """When the next wait is over by the clock."""


@dataclass(frozen=True, slots=True)
class WorkerProfile:
    """What a worker says of itself when it opens a session."""

    name: str
    queues: Sequence[str]
    slots: int
    version: str = ""


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a worker is told when it renews its lease: whether to start no further step."""

    draining: bool


class SessionStore(Protocol):
    """Keeps worker sessions."""

    async def open(
        self,
        session_id: UUID,
        profile: WorkerProfile,
        *,
        lease: timedelta,
        busy: int,
        draining: bool,
    ) -> None:
        """Open a session; `busy` is the number of steps that the worker runs."""

    async def renew(self, session_id: UUID, *, lease: timedelta, busy: int) -> Renewal | None:
        """Renew its lease; None when it has run out."""

    async def close(self, session_id: UUID) -> None:
        """End its lease at once."""


class Wakeups(Protocol):
    """Tells workers that steps are ready."""

    async def publish(self, refs: Sequence[StepRef]) -> None:
        """Send messages for steps; returns once the broker has them."""

    async def backlog(self, queue: str) -> int:
        """Number of messages that wait in a queue."""


class EventBus(Protocol):
    """Carries the events of committed transitions to whoever watches."""

    async def publish(self, batches: Sequence[EventBatch]) -> None:
        """Send events; a lost message is made good from the record."""

    async def publish_cancelled(self, batches: Sequence[EventBatch]) -> None:
        """Send the events of cancelled tasks, which workers listen to."""

    async def publish_notices(self) -> None:
        """Tell that there are notices to carry out; lost, they are found a little later."""

    async def subscribe_notices(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when there are notices, from now on."""

    async def subscribe(self, callback: Callable[[Sequence[EventBatch]], None]) -> None:
        """Have `callback` called with all events from now on."""

    async def subscribe_cancelled(self, callback: Callable[[Sequence[EventBatch]], None]) -> None:
        """Have `callback` called with the events of cancelled tasks from now on."""
