from collections.abc import Sequence

import pytest

from stepwire.demo.history import Findings
from stepwire.demo.report import Answer, Report

FINE = Findings(violations=(), completed_steps=9, lost_attempts=0, rerun_steps=0, executions=3)


def answer(*, cited: Sequence[str]) -> Answer:
    return Answer(
        question="q",
        text="a",
        model="m",
        cited=tuple(cited),
        expected=("with", "try"),
        task_id="t",
        succeeded=True,
    )


def report(
    answers: Sequence[Answer],
    *,
    failed: Sequence[str] = (),
    findings: Findings = FINE,
    expected_kills: int = 0,
) -> Report:
    return Report(
        documents=2,
        passages=10,
        answers=tuple(answers),
        tasks=22,
        failed_tasks=tuple(failed),
        seconds=30.0,
        latencies=(),
        kills=(),
        expected_kills=expected_kills,
        findings=findings,
    )


RIGHT, WRONG = answer(cited=["for", "try"]), answer(cited=["for"])


def test_one_expected_topic_among_the_cited_is_enough() -> None:
    assert RIGHT.is_cited
    assert not WRONG.is_cited
    assert not answer(cited=[]).is_cited


@pytest.mark.parametrize(("wrong", "is_success"), [(3, True), (4, False)])
def test_85_percent_must_cite_an_expected_topic(wrong: int, is_success: bool) -> None:  # noqa: FBT001
    made = report([RIGHT] * (20 - wrong) + [WRONG] * wrong)
    assert (made.faults() == []) is is_success
    assert made.to_json()["ok"] is is_success


def test_a_failed_task_is_a_fault() -> None:
    assert report([RIGHT], failed=["t9"]).faults() == [
        "1 of 22 tasks did not succeed, the first t9"
    ]


def test_a_broken_rule_is_a_fault() -> None:
    broken = Findings(
        violations=("step ran twice",),
        completed_steps=9,
        lost_attempts=0,
        rerun_steps=0,
        executions=3,
    )
    assert report([RIGHT], findings=broken).faults() == [
        "1 rules of the history are broken, the first: step ran twice"
    ]


def test_a_worker_that_was_not_killed_is_a_fault() -> None:
    assert report([RIGHT], expected_kills=2).faults() == [
        "0 workers were killed instead of 2: the tasks were done before the moment came"
    ]


def test_the_json_tells_the_figures() -> None:
    told = report([RIGHT, WRONG]).to_json()
    assert (told["tasks_per_minute"], told["cited_share"], told["questions"]) == (44.0, 0.5, 2)
    assert [row["ok"] for row in told["answers"]] == [True, False]
