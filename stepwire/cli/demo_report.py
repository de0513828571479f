"""Prints what a run of the demo has shown."""

import textwrap
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stepwire.cli.output import duration, tell
from stepwire.demo.latency import Latency
from stepwire.demo.report import Answer, Report

_ANSWER_LINES = 2
_MOST_COLUMNS = 100


def print_report(report: Report, screen: Console) -> None:
    """Prints the report for people."""
    screen.print()
    _print_answers(report.answers, screen)
    screen.print(_latencies(report.latencies))
    screen.print()
    cited = sum(answer.is_cited for answer in report.answers)
    tell(
        screen,
        f"{cited} of {len(report.answers)} answers ({report.cited_share:.0%}) cite an expected "
        "topic.",
    )
    tell(
        screen,
        f"{report.tasks} tasks ({report.documents} documents in {report.passages} passages, "
        f"{len(report.answers)} questions) in {report.seconds:.1f} s: "
        f"{report.tasks_per_minute:.0f} tasks per minute.",
    )
    _print_proof(report, screen)
    faults = report.faults()
    for fault in faults:
        tell(screen, f"FAULT: {fault}", style="bold red")
    if not faults:
        screen.print("The demo succeeded.", style="bold green")


def _print_answers(answers: Iterable[Answer], screen: Console) -> None:
    """Prints each question with the topics that the answer cites, and how the answer begins."""
    width = min(screen.width, _MOST_COLUMNS) - 1
    for answer in answers:
        mark = Text("✓ ", "green") if answer.is_cited else Text("✗ ", "bold red")
        tell(screen, Text.assemble(mark, (answer.question, "bold")))
        begin = textwrap.wrap(
            f"{', '.join(answer.cited) or 'nothing cited'}: {answer.text}",
            width,
            initial_indent="  ",
            subsequent_indent="  ",
            max_lines=_ANSWER_LINES,
            placeholder=" …",
        )
        for line in begin:
            screen.print(line, soft_wrap=True)
        if not answer.is_cited:
            tell(screen, f"  expected one of: {', '.join(answer.expected)}", style="red")
        screen.print()


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
        tell(
            screen,
            f"{kill.worker} (process {kill.pid}) was killed with SIGKILL during the "
            f"{kill.phase}: {kill.done_tasks} of {kill.total_tasks} tasks were done, "
            f"{kill.running_steps} steps were running.",
        )
    if report.kills:
        tell(
            screen,
            f"{findings.lost_attempts} attempts were lost with their worker; the "
            f"{findings.rerun_steps} steps concerned were run again and completed.",
        )
    verdict = "none ran" if not findings.violations else "NOT all of them ran just"
    again = "again after its completion" if not findings.violations else "once"
    tell(
        screen,
        f"{findings.completed_steps} steps were completed, and {verdict} {again}: checked in the "
        f"record's events, and by the {findings.executions} executions that Python steps counted "
        "in a file.",
    )
    for violation in findings.violations:
        tell(screen, f"  {violation}", style="red")
