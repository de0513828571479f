"""What goes wrong in a run, drawn from its seed. Pure."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.faults import (
    Armed,
    BackendsTerminated,
    ClockJumped,
    CutOff,
    DiskFull,
    Fault,
    Killed,
    MessagesMeddledWith,
    PostgresRestarted,
    RabbitRestarted,
    StartedWithout,
    Stopped,
    Terminated,
)
from tests.chaos.servers import POSTGRES_CLOCK

# Where a worker can die: before and after every commit it makes, and around its messages.
WORKER_DEATHS = (
    "message.taken=kill",
    # Acknowledged late: what it named is claimed and recorded before the process dies.
    "message.handed_over=kill(0.3)",
    "claim.before=kill",
    "claim.committed=kill",
    "effect.done=kill",
    "settle.before=kill",
    "settle.committed=kill",
    "publish.before=kill",
    "publish.done=kill",
)
EXECUTOR_DEATHS = (
    "create.before=kill",
    "create.committed=kill",
    "publish.before=kill",
    "publish.done=kill",
    "cancel.committed=kill",
    "retry.committed=kill",
)
SWEEPER_DEATHS = ("sweep.due=kill", "sweep.session=kill")
# Commits whose answer is lost: what is repeated must do no harm.
LOST_ANSWERS = {
    "worker": ("claim.committed=error", "start.committed=error", "settle.committed=error"),
    "executor": ("create.committed=error", "cancel.committed=error", "retry.committed=error"),
}
# Places at which a worker falls asleep past its lease.
STOPS = ("claim.committed=stop", "effect.done=stop", "settle.before=stop")
BLOCK = "effect.done=block(5)"
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Plan:
    """A run to make.

    Attributes:
        seed: what it was drawn from; the tasks are drawn from it too.
        lives: failpoints of each part's lives, by the part's name.
        armed: the same as faults.
        struck: faults that happen one after the other.
        tasks: the fewest tasks to send.
        settle_seconds: how long the tasks have to end once all faults are over.
        broken: the build to run; see `tests.chaos.broken`.
    """

    seed: int
    armed: tuple[Armed, ...]
    struck: tuple[Fault, ...]
    executors: int = 1
    workers: int = 2
    tasks: int = 30
    settle_seconds: float = 40.0
    broken: str = ""

    @property
    def lives(self) -> dict[str, list[str]]:
        """The failpoints of each part's lives, by the part's name."""
        lives: dict[str, list[str]] = {}
        for fault in self.armed:
            lives.setdefault(fault.part, []).append(fault.spec)
        return lives

    @property
    def gated(self) -> set[str]:
        """The workers that are to be cut off from Postgres."""
        return {fault.part for fault in self.struck if isinstance(fault, CutOff)}

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All that is to go wrong."""
        return (*self.armed, *self.struck)


def draw_plan(seed: int, *, has_own_disk: bool, has_clocks: bool) -> Plan:
    """Draw a run.

    Args:
        seed: the same seed gives the same plan on the same kind of machine.
        has_own_disk: whether the disk under Postgres can be filled.
        has_clocks: whether clocks can be moved.
    """
    rng = random.Random(seed)
    executors, workers = rng.choice([1, 1, 2]), rng.choice([2, 2, 3])

    def executor() -> str:
        return f"executor-{rng.randint(1, executors)}"

    def worker() -> str:
        return f"worker-{rng.randint(1, workers)}"

    kinds: list[Callable[[], Fault]] = [
        lambda: Killed(worker()),
        lambda: Killed(executor()),
        lambda: Stopped(worker()),
        lambda: Stopped(executor()),
        lambda: CutOff(worker()),
        lambda: Terminated(worker()),
        lambda: Terminated(executor()),
        lambda: PostgresRestarted(crash=False),
        lambda: PostgresRestarted(crash=True),
        BackendsTerminated,
        RabbitRestarted,
        lambda: StartedWithout(rng.choice([worker(), executor()]), "postgres"),
        lambda: StartedWithout(rng.choice([worker(), executor()]), "rabbitmq"),
        lambda: MessagesMeddledWith(rng.randrange(2**32)),
    ]
    if has_own_disk:
        kinds.append(DiskFull)
    if has_clocks:
        kinds += [
            lambda: ClockJumped(worker(), rng.choice([-HOUR, HOUR])),
            lambda: ClockJumped(executor(), rng.choice([-HOUR, HOUR])),
            lambda: ClockJumped(POSTGRES_CLOCK, HOUR),
        ]
    if rng.random() < 0.15:
        # Alone, so that nothing else can cost the worker its lease.
        return Plan(seed, (Armed("worker-1", at(rng, BLOCK)),), (), executors, workers)
    # Every kind gets its turn, whatever seed a loop begins with.
    first = kinds[seed % len(kinds)]
    struck = [first(), *(each() for each in rng.sample(kinds, rng.randint(0, 2)))]
    armed = _draw_armed(rng, executors, workers)
    return Plan(seed, armed, tuple(_possible(struck, armed)), executors, workers)


def _possible(struck: Sequence[Fault], armed: Sequence[Armed]) -> Iterator[Fault]:
    """Leave out what would undo another fault, and add what another one needs."""
    asleep = {fault.part for fault in armed if "=stop" in fault.spec}
    for fault in struck:
        if not (isinstance(fault, Stopped) and fault.part in asleep):
            yield fault
    if any(fault.spec.startswith("sweep.session") for fault in armed):
        # Nobody sweeps up after sessions that do not end.
        yield Killed("worker-1")


def _draw_armed(rng: random.Random, executors: int, workers: int) -> tuple[Armed, ...]:
    armed: list[Armed] = []
    for kind, count, deaths, others in (
        ("worker", workers, WORKER_DEATHS, (*LOST_ANSWERS["worker"], *STOPS)),
        # Of several executors, nobody knows which one sweeps.
        (
            *("executor", executors),
            (*EXECUTOR_DEATHS, *(SWEEPER_DEATHS if executors == 1 else ())),
            LOST_ANSWERS["executor"],
        ),
    ):
        for number in range(1, count + 1):
            lives = rng.sample(deaths, rng.randint(0, 2))
            if rng.random() < 0.4:
                # A life that nothing ends is the last one.
                lives.append(rng.choice(others))
            armed += [Armed(f"{kind}-{number}", at(rng, spec)) for spec in lives]
    return tuple(armed)


def at(rng: random.Random, spec: str) -> str:
    """Choose at which passing a failpoint fires: rare places early, busy ones anywhere."""
    rare = spec.startswith(("sweep.", "cancel.", "retry."))
    return f"{spec}@{1 if rare else rng.randint(1, 6)}"


def plan_of(seed: int, faults: Sequence[Fault]) -> Plan:
    """A plan that is not drawn: these faults, whatever the seed."""
    armed = tuple(fault for fault in faults if isinstance(fault, Armed))
    struck = tuple(fault for fault in faults if not isinstance(fault, Armed))
    return Plan(seed, armed, struck)
