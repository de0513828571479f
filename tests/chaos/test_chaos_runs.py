"""A short set of chaos runs; `make chaos` draws others without end."""

from dataclasses import replace

import pytest

from tests.chaos.faults import (
    Armed,
    BackendsTerminated,
    MessagesMeddledWith,
    PostgresRestarted,
    RabbitRestarted,
)
from tests.chaos.plan import plan_of
from tests.chaos.run import Report, Verdict, make_run
from tests.chaos.selftests import SELF_TESTS, self_test_plan

# A slow machine needs long to start what was killed.
pytestmark = pytest.mark.timeout(300)
TASKS = 15
# A fault may fail to happen where the machine stands still just then; that shows nothing.
MOST_RUNS = 3
PLANS = {
    "processes die and loops are blocked": plan_of(
        1,
        [
            Armed("worker-1", "effect.done=block(5)@3"),
            Armed("worker-2", "settle.committed=kill@3"),
            Armed("worker-2", "message.handed_over=kill(0.3)@3"),
            Armed("worker-2", "effect.done=kill@3"),
            Armed("executor-1", "create.committed=kill@2"),
        ],
    ),
    "a worker falls asleep while messages and answers get lost": plan_of(
        2,
        [
            Armed("worker-1", "effect.done=stop@3"),
            Armed("worker-2", "settle.committed=error@3"),
            MessagesMeddledWith(2),
            BackendsTerminated(),
        ],
    ),
    "servers crash": plan_of(
        3,
        [
            Armed("worker-1", "claim.before=kill@5"),
            Armed("executor-1", "publish.before=kill@3"),
            PostgresRestarted(crash=True),
            RabbitRestarted(),
        ],
    ),
}


async def telling_run(plan, servers, folder) -> Report:
    """Make a run, anew as long as what it is to show did not come about."""
    plan = replace(plan, tasks=TASKS)
    for number in range(MOST_RUNS):
        report = await make_run(plan, servers, folder / f"run-{number}")
        shown, happened = bool(report.violations), not report.void
        if (shown and happened) if plan.broken else (shown or happened):
            break
    return report


@pytest.mark.parametrize("name", PLANS)
async def test_the_promises_hold_when(name, servers, tmp_path):
    report = await telling_run(PLANS[name], servers, tmp_path)
    assert report.violations == [], report.line()
    assert report.verdict == Verdict.GREEN, report.line()


# The others take longer, and are part of `make chaos`.
@pytest.mark.parametrize("name", ["answers_before_commit", "takes_late_results"])
async def test_a_broken_build_turns_its_oracle_red(name, servers, tmp_path):
    report = await telling_run(self_test_plan(name), servers, tmp_path)
    assert report.void == [], report.line()
    assert SELF_TESTS[name].oracle in {each.oracle for each in report.violations}, report.line()
