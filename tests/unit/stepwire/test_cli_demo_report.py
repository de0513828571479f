"""How a run of the demo is shown."""

from io import StringIO

from rich.console import Console
from rich.text import Text

from stepwire.cli.demo_report import print_report
from stepwire.demo.history import Findings
from stepwire.demo.report import Answer, Report

LONG = "A sentence that goes on for longer than any line of a terminal does. " * 5


def answer(question: str, *cited: str) -> Answer:
    return Answer(
        question=question,
        text=LONG,
        model="m",
        cited=cited,
        expected=("with", "try"),
        task_id="t",
        succeeded=True,
    )


def shown(*answers: Answer, is_terminal: bool) -> list[str]:
    report = Report(
        documents=2,
        passages=10,
        answers=answers,
        tasks=4,
        failed_tasks=(),
        seconds=30.0,
        latencies=(),
        kills=(),
        expected_kills=0,
        findings=Findings(
            violations=(), completed_steps=9, lost_attempts=0, rerun_steps=0, executions=3
        ),
    )
    file = StringIO()
    screen = Console(
        file=file,
        width=60,
        force_terminal=is_terminal,
        no_color=True,
        highlight=False,
        markup=False,
    )
    print_report(report, screen)
    return [Text.from_ansi(line).plain.rstrip() for line in file.getvalue().splitlines()]


def test_an_answer_that_cites_what_it_should_not_says_what_it_should() -> None:
    lines = shown(answer("Right?", "for", "try"), answer("Wrong?", "for"), is_terminal=False)
    assert lines[1:5] == [
        "✓ Right?",
        "  for, try: A sentence that goes on for longer than any",
        "  line of a terminal does. A sentence that goes on for …",
        "",
    ]
    assert lines[5] == "✗ Wrong?"
    assert lines[8] == "  expected one of: with, try"
    assert any(line.startswith("FAULT: ") for line in lines)


def test_sentences_are_whole_lines_in_a_file_and_wrapped_on_a_terminal() -> None:
    sentence = "9 steps were completed, and none ran again after its completion: checked in "
    assert any(line.startswith(sentence) for line in shown(answer("a", "try"), is_terminal=False))
    lines = shown(answer("a", "try"), is_terminal=True)
    assert max(map(len, lines)) <= 60
    assert "9 steps were completed, and none ran again after its" in lines
