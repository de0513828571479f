"""Prints what a run of the demo has shown."""

from collections.abc import Iterable

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stepwire.cli.output import duration, shortened
from stepwire.demo.latency import Latency
from stepwire.demo.report import Answer, Report

_ANSWER_CHARACTERS = 100


def print_report(report: Report, screen: Console) -> None:
    """Prints the report for people."""
    screen.print(_answers(report.answers))
    screen.print()
    screen.print(_latencies(report.latencies))
    screen.print()
    cited = sum(answer.is_cited for answer in report.answers)
    screen.print(
        f"{cited} of {len(report.answers)} answers ({report.cited_share:.0%}) cite an expected "
        f"topic.\n{report.tasks} tasks ({report.documents} documents in {report.passages} "
        f"passages, {len(report.answers)} questions) in {report.seconds:.1f} s: "
        f"{report.tasks_per_minute:.0f} tasks per minute.",
        soft_wrap=True,
    )
    _print_proof(report, screen)
    faults = report.faults()
    for fault in faults:
        screen.print(f"FAULT: {fault}", style="bold red", soft_wrap=True)
    if not faults:
        screen.print("The demo succeeded.", style="bold green")


def _answers(answers: Iterable[Answer]) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 1, 0), expand=True)
    table.add_column("question", ratio=8)
    table.add_column("answer", ratio=11)
    table.add_column("cited", ratio=5, overflow="fold")
    table.add_column("ok", no_wrap=True)
    for answer in answers:
        mark = Text("yes", "green") if answer.is_cited else Text("NO", "bold red")
        table.add_row(
            answer.question,
            shortened(answer.text, _ANSWER_CHARACTERS),
            ", ".join(answer.cited),
            mark,
        )
    return table


def _latencies(latencies: Iterable[Latency]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("step kind")
    for column in ("steps", "p50", "p99"):
        table.add_column(column, justify="right")
    for latency in latencies:
        table.add_row(
            latency.kind,
            str(latency.steps),
            duration(latency.p50_seconds),
            duration(latency.p99_seconds),
        )
    return table


def _print_proof(report: Report, screen: Console) -> None:
    """Prints what was checked about steps running once."""
    findings = report.findings
    for kill in report.kills:
        screen.print(
            f"{kill.worker} (process {kill.pid}) was killed with SIGKILL during the "
            f"{kill.phase}: {kill.done_tasks} of {kill.total_tasks} tasks were done, "
            f"{kill.running_steps} steps were running.",
            soft_wrap=True,
        )
    if report.kills:
        screen.print(
            f"{findings.lost_attempts} attempts were lost with their worker; the "
            f"{findings.rerun_steps} steps concerned were run again and completed.",
            soft_wrap=True,
        )
    verdict = "none ran" if not findings.violations else "NOT all of them ran just"
    again = "again after its completion" if not findings.violations else "once"
    screen.print(
        f"{findings.completed_steps} steps were completed, and {verdict} {again}: checked in the "
        f"record's events, and by the {findings.executions} executions that Python steps counted "
        "in a file.",
        soft_wrap=True,
    )
    for violation in findings.violations:
        screen.print(f"  {violation}", style="red", soft_wrap=True)
