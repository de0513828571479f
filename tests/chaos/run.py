"""One run: parts that work, faults that strike, a history, a verdict."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from stepwire.errors import Reason
from tests.chaos.cluster import LEASE_SECONDS, Cluster, running_cluster
from tests.chaos.collect import collect, until_quiet
from tests.chaos.customers import Customer, Dealings
from tests.chaos.draws import draw_tasks
from tests.chaos.faults import FIRE_SECONDS, Fault, NotFiredError
from tests.chaos.history import History
from tests.chaos.intents import TaskIntent
from tests.chaos.ledger import read_ledgers
from tests.chaos.oracles import Violation, judge
from tests.chaos.plan import Plan
from tests.chaos.servers import Servers
from tests.pauses import Pauses, pauses

# How many tasks are under way at once: until there are enough, and while faults are
# waited for.
AT_ONCE, LATER_AT_ONCE = 12, 6
PAUSE_SECONDS = 0.05
REFUSED = "a result was refused"
# A machine that stands still for as long may cost any worker its lease.
STANDSTILL_SECONDS = LEASE_SECONDS * 0.4


class Verdict(StrEnum):
    """What a run proves: the promises kept, a promise broken, or nothing."""

    GREEN = "GREEN"
    RED = "RED"
    VOID = "VOID"


@dataclass
class Report:
    """What came of a run.

    Attributes:
        fired: what was seen of each fault, by its name.
        void: why faults did not happen.
        counts: tasks, steps and so on, for people.
        internal: texts of INTERNAL answers, which no fault explains.
    """

    plan: Plan
    history: History
    violations: list[Violation]
    fired: dict[str, str]
    void: list[str]
    counts: dict[str, int] = field(default_factory=dict)
    internal: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """A broken promise counts even in a run whose faults did not all happen."""
        if self.violations:
            return Verdict.RED
        return Verdict.VOID if self.void else Verdict.GREEN

    def line(self) -> str:
        """The run in one line."""
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count)
        faults = "; ".join(f"{name} [{seen}]" for name, seen in self.fired.items())
        missing = "".join(f"; NOT FIRED: {why}" for why in self.void)
        head = f"seed {self.plan.seed}: {self.verdict} in {self.seconds:.1f} s: {counts}"
        return f"{head}: {faults}{missing}"


class Run:
    """A run over given servers; its files stay in `folder`."""

    def __init__(self, plan: Plan, servers: Servers, folder: Path) -> None:
        self._plan = plan
        self._servers = servers
        self._folder = folder
        self._dealings: list[Dealings] = []
        self._fired: dict[str, str] = {}
        self._void: list[str] = []

    async def make(self) -> Report:
        """Make the run and judge it; its history is saved as history.json."""
        begun = time.monotonic()
        plan = self._plan
        rng = random.Random(plan.seed)
        async with (
            pauses() as seen,
            running_cluster(
                self._servers,
                self._folder,
                executors=plan.executors,
                workers=plan.workers,
                lives=plan.lives,
                gated=plan.gated,
                broken=plan.broken,
            ) as cluster,
        ):
            customer = Customer(cluster.clients, rng)
            async with self._customers(customer, draw_tasks(rng)) as finished:
                await self._strike(cluster, rng)
                await cluster.heal()
                await finished()
            with suppress(AssertionError):
                await until_quiet(cluster.clients[0], plan.settle_seconds / 2)
            tasks = await collect(cluster.clients[0], self._dealings)
            logs = [line for part in cluster.parts for line in part.lines()]
        history = History(
            tasks=tasks,
            executions=tuple(read_ledgers(cluster.ledgers)),
            blocks=tuple(block for fault in plan.armed for block in fault.blocks),
            halts=tuple(halt for part in cluster.parts for halt in part.halts),
        )
        history.save(self._folder / "history.json")
        internal = {
            text: n for (reason, text), n in customer.errors.items() if reason == Reason.INTERNAL
        }
        return Report(
            plan=plan,
            history=history,
            violations=self._judge(history, seen),
            fired=self._fired,
            void=self._void,
            counts={
                **_counts(history),
                "results refused": sum(line["message"].startswith(REFUSED) for line in logs),
                "INTERNAL answers": sum(internal.values()),
                "errors logged": sum(line["level"] in {"ERROR", "CRITICAL"} for line in logs),
            },
            internal=list(internal),
            seconds=time.monotonic() - begun,
        )

    def _judge(self, history: History, seen: Pauses) -> list[Violation]:
        """Ask all oracles; a lease that the machine may have cost shows nothing."""
        violations = judge(history)
        others = [each for each in violations if each.oracle != "lease"]
        if seen.longest_seconds > PAUSE_SECONDS and len(others) < len(violations):
            self._void.append(f"the machine stood still for {seen.longest_seconds:.1f} s")
            return others
        return violations

    @asynccontextmanager
    async def _customers(
        self, customer: Customer, intents: Iterator[TaskIntent]
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Have tasks sent, several at once, until the block ends and enough were sent."""
        enough = asyncio.Event()
        dealing: set[asyncio.Task[None]] = set()

        async def send() -> None:
            while not (enough.is_set() and len(self._dealings) >= self._plan.tasks):
                few = len(self._dealings) < self._plan.tasks
                if len(dealing) < (AT_ONCE if few else LATER_AT_ONCE):
                    dealings = Dealings(next(intents))
                    self._dealings.append(dealings)
                    task = asyncio.create_task(customer.deal(dealings))
                    dealing.add(task)
                    task.add_done_callback(dealing.discard)
                else:
                    await asyncio.sleep(PAUSE_SECONDS)

        sending = asyncio.create_task(send())

        async def finished() -> None:
            enough.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._plan.settle_seconds):
                    await sending
                    while dealing:
                        await asyncio.gather(*dealing)

        try:
            yield finished
        finally:
            for task in (sending, *dealing):
                task.cancel()
            await asyncio.gather(sending, *dealing, return_exceptions=True)

    async def _strike(self, cluster: Cluster, rng: random.Random) -> None:
        """Let armed faults happen in their parts while the others strike in turn."""
        armed = [
            asyncio.create_task(self._one(fault, cluster), name=fault.name)
            for fault in self._plan.armed
        ]
        for fault in self._plan.struck:
            await asyncio.sleep(rng.uniform(0.1, 0.6))
            await self._one(fault, cluster)
        # They may have had to wait for the others to be over.
        _, waiting = await asyncio.wait(armed, timeout=FIRE_SECONDS) if armed else ((), ())
        for task in waiting:
            self._void.append(task.get_name())
            task.cancel()

    async def _one(self, fault: Fault, cluster: Cluster) -> None:
        try:
            self._fired[fault.name] = await fault.strike(cluster)
        except NotFiredError as error:
            self._void.append(str(error))


def _counts(history: History) -> dict[str, int]:
    ends = [task.end for task in history.tasks if task.end is not None]
    types = Counter(event.type for end in ends for event in end.events)
    return {
        "tasks": len(history.tasks),
        "steps": types["STEP_SUCCEEDED"],
        "executions": len(history.executions),
        "lost": types["STEP_LOST"],
        "cancelled": types["TASK_CANCELLED"],
        "retried": types["TASK_RETRIED"],
    }


async def make_run(plan: Plan, servers: Servers, folder: Path) -> Report:
    """Make a run."""
    return await Run(plan, servers, folder).make()
