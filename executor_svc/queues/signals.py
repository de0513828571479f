"""How busy queues are, and how many workers they want. Pure.

The number of workers follows from Little's law: what is in service on average is the rate of
completions times the mean time in service (L = λW; J. D. C. Little, A Proof for the Queuing
Formula, Operations Research 9(3), 1961). To drain a backlog within a target time while
steps go on arriving, steps must end at the rate

    arrival rate + backlog / target

so that as many slots are held as that rate times the mean time for which an attempt holds
its slot; slots that are held only for a part of the time, the utilisation, make it more:

    slots = (arrival rate + backlog / target) * service time / utilisation

The service time is measured, not assumed: where workers are short of something else than
slots, such as CPU, attempts hold their slots for longer, and more workers are wanted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from executor_svc.queues.records import Backlog, RecentTraffic, Snapshot, Traffic, WorkerRecord

# With fewer attempts ended in the last minute, the service time is that of the last hour.
FEW = 20


@dataclass(frozen=True, slots=True)
class Aim:
    """What the number of workers is to achieve.

    Attributes:
        drain_seconds: time in which the backlog shall be gone.
        utilisation: share of its slots that a worker may hold on average, in (0, 1].
        min_workers: fewest workers.
        max_workers: most workers; 0 means no bound.
    """

    drain_seconds: float = 60.0
    utilisation: float = 0.8
    min_workers: int = 0
    max_workers: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers that serve certain queues, taken together; `busy` of their `slots` are held."""

    workers: int = 0
    slots: int = 0
    busy: int = 0

    @property
    def slots_per_worker(self) -> float:
        """Mean slots of a worker; 0 when there is none."""
        return self.slots / self.workers if self.workers else 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a queue's workers have to do.

    Attributes:
        service_seconds: mean time for which an attempt holds its slot; None if unknown.
        paused: whether nothing of it starts.
    """

    ready: int
    running: int
    arrival_rate: float
    service_seconds: float | None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class QueueSignals:
    """A queue's signals; see queue_service.proto."""

    queue: str
    ready: int
    running: int
    waiting: int
    oldest_ready_seconds: float | None
    wait_seconds: float | None
    arrival_rate: float
    completion_rate: float
    failure_rate: float
    service_seconds: float | None
    pool: Pool
    slots_wanted: float
    workers_wanted: int


def slots_wanted(load: Load, aim: Aim) -> float:
    """Return how many slots a queue wants; what runs keeps its own in any case."""
    if load.paused or load.service_seconds is None:
        return float(load.running)
    rate = load.arrival_rate + load.ready / aim.drain_seconds
    return max(float(load.running), rate * load.service_seconds / aim.utilisation)


def workers_wanted(loads: Sequence[Load], pool: Pool, aim: Aim) -> int:
    """Return how many workers queues want that `pool` serves together, within bounds."""
    slots = sum(slots_wanted(load, aim) for load in loads)
    wanted = math.ceil(slots / pool.slots_per_worker) if pool.slots else 0
    if any(_is_unknown(load, pool) for load in loads):
        # Nothing says how much a worker gets done: keep what there is, and begin with one.
        wanted = max(wanted, pool.workers, 1)
    wanted = max(wanted, aim.min_workers)
    return min(wanted, aim.max_workers) if aim.max_workers else wanted


def _is_unknown(load: Load, pool: Pool) -> bool:
    starting = load.ready > 0 and not load.paused
    unknown = load.service_seconds is None or not pool.slots
    return unknown and (starting or load.running > 0)


def signals_of(snapshot: Snapshot, queue: str, aim: Aim) -> QueueSignals:
    """Return a queue's signals."""
    backlog = snapshot.backlogs.get(queue, Backlog())
    traffic = _traffic_of(snapshot, queue)
    load = load_of(snapshot, queue)
    pool = pool_of(snapshot.workers, [queue])
    return QueueSignals(
        queue=queue,
        ready=backlog.ready,
        running=backlog.running,
        waiting=backlog.waiting,
        oldest_ready_seconds=_age(backlog.oldest_ready_at, snapshot.taken_at),
        wait_seconds=_mean(traffic.minute.wait_seconds, traffic.minute.started),
        arrival_rate=load.arrival_rate,
        completion_rate=_rate(traffic.minute.finished, traffic),
        failure_rate=_rate(traffic.minute.failed, traffic),
        service_seconds=load.service_seconds,
        pool=pool,
        slots_wanted=slots_wanted(load, aim),
        workers_wanted=workers_wanted([load], pool, aim),
    )


def load_of(snapshot: Snapshot, queue: str) -> Load:
    """Return what a queue's workers have to do."""
    backlog = snapshot.backlogs.get(queue, Backlog())
    traffic = _traffic_of(snapshot, queue)
    typical = traffic.minute if traffic.minute.finished >= FEW else traffic.hour
    return Load(
        ready=backlog.ready,
        running=backlog.running,
        arrival_rate=_rate(traffic.minute.arrived, traffic),
        service_seconds=_mean(typical.busy_seconds, typical.finished),
        paused=queue in snapshot.pauses,
    )


def pool_of(workers: Sequence[WorkerRecord], queues: Sequence[str]) -> Pool:
    """Return the workers that serve any of `queues`, apart from those being drained."""
    wanted = frozenset(queues)
    serving = [
        worker for worker in workers if not worker.draining and not wanted.isdisjoint(worker.queues)
    ]
    return Pool(
        workers=len(serving),
        slots=sum(worker.slots for worker in serving),
        busy=sum(worker.busy for worker in serving),
    )


def _traffic_of(snapshot: Snapshot, queue: str) -> RecentTraffic:
    return snapshot.traffic.get(queue, RecentTraffic(Traffic(), Traffic(), timedelta(minutes=1)))


def _rate(count: int, traffic: RecentTraffic) -> float:
    return count / traffic.minute_span.total_seconds()


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def _age(since: datetime | None, now: datetime) -> float | None:
    # Both times are Postgres's, but a transaction's time is that of its beginning.
    return None if since is None else max(0.0, (now - since).total_seconds())
