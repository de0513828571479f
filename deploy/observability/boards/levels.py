"""Service levels: how much may fail, and alerts on how fast that is used up.

Each level has an alert for each pair of windows of the Site Reliability Workbook (chapter 5,
Alerting on SLOs): the long one shows that much was used up, the short one that it goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A service level.

    Attributes:
        name: Of the recorded shares: `stepwire:<name>_ratio:rate<window>`.
        alert: Name of the alerts.
        runbook: Name of the runbook's file, without its ending.
        allowed: Share that may be bad.
        by: Labels by which it is held, if any.
        bad: PromQL of the bad ones per second; `[w]` stands for the window.
        all: PromQL of all per second.
        least: Fewest in the long window for which anybody is told.
        summary: What is wrong; for people.
        what: What is shared, for people.
    """

    name: str
    alert: str
    runbook: str
    allowed: float
    by: str = ""
    bad: str
    all: str
    least: int
    summary: str
    what: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two windows, and how many times too fast may be used up within them."""

    long: str
    short: str
    times: float
    severity: str


WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
PAIRS: Final = (
    Pair("1h", "5m", 14.4, "page"),
    Pair("6h", "30m", 6, "page"),
    Pair("1d", "2h", 3, "ticket"),
    Pair("3d", "6h", 1, "ticket"),
)
# Of the buckets of `stepwire.worker.step.wait`, as its bound is written.
IN_TIME_SECONDS: Final = "10.0"

LEVELS: Final = (
    Level(
        name="calls_failed",
        alert="StepwireCallsFail",
        runbook="calls-fail",
        allowed=0.001,
        by="component",
        bad='sum by (component) (rate(rpc_server_call_duration_seconds_count{error_type!=""}[w]))',
        all="sum by (component) (rate(rpc_server_call_duration_seconds_count[w]))",
        least=100,
        summary="Calls of {{ $labels.component }} fail",
        what="calls",
    ),
    Level(
        name="tasks_failed",
        alert="StepwireTasksFail",
        runbook="tasks-fail",
        allowed=0.01,
        bad='sum(rate(stepwire_executor_task_duration_seconds_count{stepwire_result="failed"}[w]))',
        all="sum(rate("
        'stepwire_executor_task_duration_seconds_count{stepwire_result!="cancelled"}[w]))',
        least=20,
        summary="Tasks fail",
        what="tasks that ended",
    ),
    Level(
        name="steps_late",
        alert="StepwireStepsStartLate",
        runbook="steps-start-late",
        allowed=0.01,
        by="stepwire_queue",
        bad="sum by (stepwire_queue) (rate(stepwire_worker_step_wait_seconds_count[w]))"
        " - sum by (stepwire_queue)"
        f' (rate(stepwire_worker_step_wait_seconds_bucket{{le="{IN_TIME_SECONDS}"}}[w]))',
        all="sum by (stepwire_queue) (rate(stepwire_worker_step_wait_seconds_count[w]))",
        least=100,
        summary="Steps of queue {{ $labels.stepwire_queue }} start late",
        what="attempts that started",
    ),
)


def rules() -> str:
    """Returns the rules as Prometheus reads them."""
    groups = [
        {
            "name": f"stepwire-{level.name.replace('_', '-')}",
            "rules": [*_shares(level), *_alerts(level)],
        }
        for level in LEVELS
    ]
    text: str = yaml.safe_dump({"groups": groups}, sort_keys=False, width=100, allow_unicode=True)
    return "# Written by `python -m deploy.observability.boards`: change levels.py.\n" + text


def share(level: Level, window: str) -> str:
    """Returns the name of a recorded share of bad ones."""
    return f"stepwire:{level.name}_ratio:rate{window}"


def _shares(level: Level) -> Iterator[dict[str, Any]]:
    for window in WINDOWS:
        bad, every = (text.replace("[w]", f"[{window}]") for text in (level.bad, level.all))
        # Where nothing has failed yet there is no such series: the share is 0, not unknown.
        yield {
            "record": share(level, window),
            "expr": f"(({bad}) or 0 * ({every})) / ({every} > 0)",
        }


def _alerts(level: Level) -> Iterator[dict[str, Any]]:
    on = f" on ({level.by})" if level.by else ""
    for pair in PAIRS:
        limit = f"{pair.times * level.allowed:.6g}"
        count = level.all.replace("rate(", "increase(").replace("[w]", f"[{pair.long}]")
        yield {
            "alert": level.alert,
            "expr": f"{share(level, pair.long)} > {limit} and{on} "
            f"{share(level, pair.short)} > {limit} and{on} {count} >= {level.least}",
            "labels": {"severity": pair.severity, "window": pair.long},
            "annotations": {
                "summary": level.summary,
                "description": f"{{{{ $value | humanizePercentage }}}} of the {level.what} within "
                f"{pair.long}; {level.allowed:.1%} may be so, and that is used up "
                f"{pair.times:g} times too fast.",
                "runbook_url": f"docs/runbooks/{level.runbook}.md",
            },
        }
