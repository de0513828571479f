"""Runs the demo: reads the documents, asks the questions, checks what happened."""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stepwire.api.executor.v1.task_pb2 import Task, TaskEvent, TaskState
from stepwire.demo.corpus import read_topics
from stepwire.demo.crash import Killer
from stepwire.demo.graphs import LEDGERED_STEPS, question_task, topic_task
from stepwire.demo.history import Findings, check_history
from stepwire.demo.latency import latencies, step_kinds
from stepwire.demo.ledger import create_ledger, read_ledger
from stepwire.demo.questions import Question, read_questions
from stepwire.demo.report import Answer, Report
from stepwire.ingest.graphs import DIMENSION
from stepwire.sdk.board import Board
from stepwire.sdk.client import Client
from stepwire.sdk.follow import follow
from stepwire.sdk.requests import NewTask
from stepwire.sdk.tally import Tally
from stepwire.sdk.values import from_payload

COLLECTION: Final = "python-reference"
_MAX_READS = 16
_PHASES = 2


@dataclass(slots=True)
class _Run:
    """One run and what it has gathered so far."""

    client: Client
    board: Board
    killer: Killer | None
    tasks: list[Task] = field(default_factory=list)
    events: dict[str, list[TaskEvent]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    async def phase(self, name: str, new: Sequence[NewTask]) -> list[Task]:
        """Runs tasks to their end and returns them, with their steps, in order."""
        tally = Tally(total=len(new))
        self.board.begin(name, tally)

        def count(event: TaskEvent) -> None:
            tally.add(event)
            self.board.update()
            kill = self.killer.consider(name, tally) if self.killer else None
            if kill is not None:
                self.board.say(
                    f"killed {kill.worker} (process {kill.pid}) with {kill.running_steps} steps "
                    f"running and {kill.done_tasks} of {kill.total_tasks} {name} done"
                )

        task_ids = await self._create(new)
        self.events |= await follow(self.client, task_ids, count)
        self.board.end()
        tasks = await self._read(task_ids)
        self.tasks += tasks
        for task in new:
            self.kinds |= step_kinds(task.graph)
        return tasks

    async def _create(self, new: Sequence[NewTask]) -> list[str]:
        """Creates tasks side by side, each with a call of its own, and so with its own trace."""
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(self.client.submit(task)) for task in new]
        return [call.result().task_id for call in calls]

    async def _read(self, task_ids: Sequence[str]) -> list[Task]:
        reads = asyncio.Semaphore(_MAX_READS)

        async def read(task_id: str) -> Task:
            async with reads:
                return await self.client.get(task_id, steps=True)

        async with asyncio.TaskGroup() as group:
            running = [group.create_task(read(task_id)) for task_id in task_ids]
        return [task.result() for task in running]


async def run_demo(
    client: Client, *, board: Board, folder: Path, killer: Killer | None = None
) -> Report:
    """Runs the whole demo once.

    The collection `python-reference` is made anew.

    Args:
        client: To the gateway of a stack whose workers run on this machine.
        board: Is told how it goes.
        folder: Where the ledger of this run is written.
        killer: Kills workers on the way; None lets them live.

    Raises:
        StepwireError: A call was refused. A task that fails is not raised but reported.
        ExceptionGroup: Of such errors, from calls made side by side.
    """
    name = uuid.uuid4().hex[:12]
    ledger = (folder / f"ledger-{name}.jsonl").absolute()
    create_ledger(ledger)
    await client.vectors.drop(COLLECTION)
    await client.vectors.create(COLLECTION, dimension=DIMENSION)
    run = _Run(client, board, killer)
    started = time.monotonic()
    documents = await run.phase(
        "documents",
        [
            topic_task(topic, collection=COLLECTION, ledger=ledger, run=name)
            for topic in read_topics()
        ],
    )
    questions = read_questions()
    asked = await run.phase(
        "questions",
        [
            question_task(question, number=number, collection=COLLECTION, ledger=ledger, run=name)
            for number, question in enumerate(questions, start=1)
        ],
    )
    seconds = time.monotonic() - started
    return Report(
        documents=len(documents),
        passages=sum(map(_passages, documents)),
        answers=tuple(map(_answer, questions, asked)),
        tasks=len(run.tasks),
        failed_tasks=tuple(task.task_id for task in run.tasks if not _succeeded(task)),
        seconds=seconds,
        latencies=tuple(latencies(run.tasks, run.kinds)),
        kills=tuple(killer.kills) if killer else (),
        expected_kills=_PHASES if killer else 0,
        findings=_check(run.tasks, run.events, ledger),
    )


def _check(
    tasks: Sequence[Task], events: Mapping[str, Sequence[TaskEvent]], ledger: Path
) -> Findings:
    return check_history(
        tasks, events=events, ledger=read_ledger(ledger), ledgered_steps=LEDGERED_STEPS
    )


def _passages(task: Task) -> int:
    return int(from_payload(task.output)["passages"]) if _succeeded(task) else 0


def _answer(question: Question, task: Task) -> Answer:
    output = from_payload(task.output) if _succeeded(task) else None
    return Answer(
        question=question.question,
        text=output["text"] if output else task.failure.message,
        model=output["model"] if output else "",
        cited=tuple(source["source"] for source in output["sources"]) if output else (),
        expected=question.topics,
        task_id=task.task_id,
        succeeded=output is not None,
    )


def _succeeded(task: Task) -> bool:
    return task.state == TaskState.TASK_STATE_SUCCEEDED
