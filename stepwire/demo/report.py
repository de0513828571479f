"""What a run of the demo has shown. Pure."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from stepwire.demo.crash import Kill
from stepwire.demo.history import Findings
from stepwire.demo.latency import Latency

REQUIRED_SHARE: Final = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A question and what came of it.

    Attributes:
        question: The question.
        text: The answer; why there is none if the task failed.
        model: Name of the model that answered; empty if the task failed.
        cited: The topics that the answer cites, in the order of their use.
        expected: The topics of which it should cite one.
        task_id: The task that answered it.
        succeeded: Whether that task SUCCEEDED.
    """

    question: str
    text: str
    model: str
    cited: tuple[str, ...]
    expected: tuple[str, ...]
    task_id: str
    succeeded: bool

    @property
    def is_cited(self) -> bool:
        """Whether an expected topic is cited."""
        return not set(self.cited).isdisjoint(self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run of the demo.

    Attributes:
        documents: Number of documents.
        passages: Number of passages that they were cut into.
        answers: The questions, in the order in which they were asked.
        tasks: Number of tasks.
        failed_tasks: Ids of the tasks that did not succeed.
        seconds: From the first task's creation until the last one was final.
        latencies: How long steps took.
        kills: The workers that were killed.
        expected_kills: How many workers were to be killed.
        findings: What the check of the history found.
    """

    documents: int
    passages: int
    answers: tuple[Answer, ...]
    tasks: int
    failed_tasks: tuple[str, ...]
    seconds: float
    latencies: tuple[Latency, ...]
    kills: tuple[Kill, ...]
    expected_kills: int
    findings: Findings

    @property
    def cited_share(self) -> float:
        """Share of the questions whose expected topic is cited."""
        return sum(answer.is_cited for answer in self.answers) / len(self.answers)

    @property
    def tasks_per_minute(self) -> float:
        """Tasks that ended per minute of the run."""
        return self.tasks / self.seconds * 60

    def faults(self) -> list[str]:
        """Returns what keeps the run from being a success, for people."""
        faults = []
        if self.failed_tasks:
            faults.append(
                f"{len(self.failed_tasks)} of {self.tasks} tasks did not succeed, "
                f"the first {self.failed_tasks[0]}"
            )
        if self.cited_share < REQUIRED_SHARE:
            faults.append(
                f"only {self.cited_share:.0%} of the answers cite the expected topic, "
                f"{REQUIRED_SHARE:.0%} are required"
            )
        if len(self.kills) < self.expected_kills:
            faults.append(
                f"{len(self.kills)} workers were killed instead of {self.expected_kills}: the "
                "tasks were done before the moment came"
            )
        if self.findings.violations:
            faults.append(
                f"{len(self.findings.violations)} rules of the history are broken, "
                f"the first: {self.findings.violations[0]}"
            )
        return faults

    def to_json(self) -> dict[str, Any]:
        """Returns the report as a JSON object."""
        faults = self.faults()
        return {
            "ok": not faults,
            "faults": faults,
            "documents": self.documents,
            "passages": self.passages,
            "tasks": self.tasks,
            "failed_tasks": list(self.failed_tasks),
            "seconds": round(self.seconds, 3),
            "tasks_per_minute": round(self.tasks_per_minute, 1),
            "questions": len(self.answers),
            "cited_share": round(self.cited_share, 4),
            "required_share": REQUIRED_SHARE,
            "answers": [
                {**dataclasses.asdict(answer), "ok": answer.is_cited} for answer in self.answers
            ],
            "latencies": [dataclasses.asdict(latency) for latency in self.latencies],
            "kills": [dataclasses.asdict(kill) for kill in self.kills],
            "history": dataclasses.asdict(self.findings),
        }
