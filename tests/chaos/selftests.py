"""Which broken build each oracle must turn red on, and the faults that bring it to light."""

from dataclasses import dataclass, replace

from tests.chaos.faults import Armed, Fault, Killed, MessagesMeddledWith
from tests.chaos.plan import Plan, plan_of

# A build that strands its tasks need not be waited for as long as a sound one.
SETTLE_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A broken build.

    Attributes:
        oracle: the one that must turn red.
        faults: without them, the build may look sound.
        tasks: so many that some of them show it.
    """

    oracle: str
    faults: tuple[Fault, ...] = ()
    tasks: int = 30


SELF_TESTS = {
    "answers_before_commit": SelfTest("P1", (Killed("executor-1"),)),
    "runs_completed_steps": SelfTest("P2", (MessagesMeddledWith(1),)),
    "takes_late_results": SelfTest("P3", (Armed("worker-1", "effect.done=stop@3"),)),
    "never_sweeps": SelfTest("P4", (Killed("worker-1"),)),
    "joins_early": SelfTest("P5"),
    "cancels_in_name": SelfTest("P6", tasks=80),
    "forgets_limits": SelfTest("P7", tasks=80),
    "forgets_requests": SelfTest("P8"),
    "passes_over_gaps": SelfTest("P9"),
    "undoes_nothing": SelfTest("undo"),
    "renews_in_the_loop": SelfTest("lease", (Armed("worker-1", "effect.done=block(5)@3"),)),
}


def self_test_plan(name: str, seed: int = 1) -> Plan:
    """The run of a broken build; what counts is what its oracle says."""
    test = SELF_TESTS[name]
    plan = plan_of(seed, test.faults)
    return replace(plan, broken=name, tasks=test.tasks, settle_seconds=SETTLE_SECONDS)
