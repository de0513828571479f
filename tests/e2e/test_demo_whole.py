"""The demo on a whole local stack, with a worker killed twice; then the commands around it.

The stack is also killed as a whole, started again and stopped.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from stepwire.stack.mark import ProcessMark
from stepwire.stack.state import StackState, read_state
from stepwire.testing.poll import eventually_blocking
from stepwire.testing.ports import free_port_offset

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
PARTS = {
    *("postgres", "rabbitmq", "collector", "model", "vector", "router", "executor"),
    *("companion", "gateway", "worker-1", "worker-2"),
}


class Stack:
    """Runs commands against a stack in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "stepwire.cli", *words],
            # An offset of the user's own would win over the one that is to be remembered.
            env={
                **os.environ,
                "STEPWIRE_HOME": str(self._home),
                "STEPWIRE_PORT_OFFSET": "",
            },
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "-o", "json", code=code))


def present(home: Path) -> StackState:
    state = read_state(home)
    assert state is not None
    return state


def processes(state: StackState) -> list[ProcessMark]:
    return [part.process for part in state.parts if part.process is not None]


@pytest.fixture(scope="module")
def port_offset() -> int:
    return free_port_offset(workers=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def demo(home: Path, port_offset: int) -> Iterator[tuple[Stack, dict[str, Any]]]:
    """A demo that was crashed twice, and the stack that it has left running."""
    stack = Stack(home)
    last: list[ProcessMark] = []
    try:
        report = stack.json("demo", "--crash", "--keep", "--port-offset", str(port_offset))
        yield stack, report
        last = processes(present(home))
    finally:
        stack.run("down", "--purge")
    assert not any(process.is_alive() for process in last)
    assert not home.exists()


def test_every_task_succeeds_and_the_answers_cite_their_topics(
    demo: tuple[Stack, dict[str, Any]],
) -> None:
    _, report = demo
    assert report["ok"], report["faults"]
    assert report["failed_tasks"] == []
    assert report["documents"] >= 79
    assert report["passages"] > 1000
    assert report["questions"] >= 28
    assert report["cited_share"] >= 0.85
    assert {row["kind"] for row in report["latencies"]} == {
        *("python", "embed", "upsert", "search", "model")
    }


def test_workers_died_and_no_completed_step_ran_twice(demo: tuple[Stack, dict[str, Any]]) -> None:
    _, report = demo
    assert [kill["phase"] for kill in report["kills"]] == ["documents", "questions"]
    history = report["history"]
    assert history["violations"] == []
    assert history["lost_attempts"] >= 1
    assert history["rerun_steps"] >= 1
    python_steps = 2 * report["documents"] + report["questions"]
    assert history["executions"] >= python_steps


def test_a_question_is_one_trace_across_every_service(demo: tuple[Stack, dict[str, Any]]) -> None:
    stack, _ = demo
    asked = stack.json("ask", "What is the pass statement good for?", "-c", "python-reference")
    assert asked["sources"][0]["source"] == "pass"
    services = {"gateway", "executor", "worker", "router", "vector", "model"}

    def traced() -> bool:
        trace = stack.json("trace", asked["task_id"])
        assert {span["service"] for span in trace["spans"]} == services
        ids = {span["span_id"] for span in trace["spans"]}
        assert [s["name"] for s in trace["spans"] if s["parent_id"] not in ids] == [
            "/stepwire.api.executor.v1.ExecutorService/CreateTask"
        ]
        return True

    eventually_blocking(traced)
    drawn = stack.run("trace", asked["task_id"])
    assert "step search" in drawn
    assert all(len(line) <= 80 for line in drawn.splitlines())


def test_a_folder_is_ingested_asked_and_kept_up_to_date(
    demo: tuple[Stack, dict[str, Any]], tmp_path: Path
) -> None:
    stack, _ = demo
    notes = tmp_path / "notes"
    (notes / "deep").mkdir(parents=True)
    (notes / "boat.md").write_text("# Boat\n\nThe mooring fee is 40 euros a night.\n")
    (notes / "deep" / "bread.txt").write_text("Bake the bread at 230 degrees for 40 minutes.\n")
    (notes / "latin.txt").write_bytes(b"caf\xe9")
    long = "\n\n".join(f"Paragraph {number} is about stone {number}. " * 8 for number in range(400))
    (notes / "long.rst").write_text(long)

    first = stack.json("ingest", str(notes), "-c", "notes")
    assert set(first["ingested"]) == {"notes/boat.md", "notes/deep/bread.txt", "notes/long.rst"}
    assert set(first["skipped"]) == {"notes/latin.txt"}
    fee = stack.json("ask", "What does a night in the harbour cost?", "-c", "notes")
    assert "40 euros" in fee["text"]
    assert fee["sources"][0]["source"] == "notes/boat.md"

    again = stack.json("ingest", str(notes), "-c", "notes")
    assert (again["ingested"], len(again["unchanged"])) == ({}, 3)

    (notes / "boat.md").write_text("# Boat\n\nThe mooring fee is 55 euros a night.\n")
    (notes / "deep" / "bread.txt").unlink()
    (notes / "long.rst").write_text("Paragraph 0 is all that is left of stone 0.")
    third = stack.json("ingest", str(notes), "-c", "notes")
    assert set(third["ingested"]) == {"notes/boat.md", "notes/long.rst"}
    assert third["removed"] == ["notes/deep/bread.txt"]
    assert "55 euros" in stack.json("ask", "What is the mooring fee?", "-c", "notes")["text"]
    left = stack.json("search", "notes", "anything", "-n", "1000")
    assert {hit["id"] for hit in left} == {"notes/boat.md#0", "notes/long.rst#0"}


def test_a_file_is_a_task(demo: tuple[Stack, dict[str, Any]], tmp_path: Path) -> None:
    stack, _ = demo
    file = tmp_path / "sum.yaml"
    file.write_text(
        "graph: {steps: [{name: total, transform: {expression: input.a + input.b}}]}\n"
        "input: {a: 20, b: 22}\n"
    )
    lines = stack.run("submit", str(file), "--watch", "-o", "json").splitlines()
    events = [json.loads(line) for line in lines]
    assert events[-1]["type"] == "TASK_EVENT_TYPE_TASK_SUCCEEDED"
    task = stack.json("tasks", "get", events[0]["task_id"], "--outputs")
    assert (task["output"], task["steps"][0]["output"]) == (42, 42)
    stack.run("tasks", "cancel", events[0]["task_id"], code=5)
    assert stack.json("tasks", "list", "--limit", "1")[0]["task_id"] == events[0]["task_id"]
    assert stack.json("models")[0]["name"]


def test_a_question_to_nothing_is_refused(demo: tuple[Stack, dict[str, Any]]) -> None:
    stack, _ = demo
    stack.run("ask", "Is there anything?", "-c", "nothing-here", code=3)


def test_openai_clients_are_answered(demo: tuple[Stack, dict[str, Any]], home: Path) -> None:
    url = f"http://{present(home).gateway}/v1"
    with openai.OpenAI(base_url=url, api_key="none") as client:
        text = "The river rose by a metre."
        own = {"stepwire": {"documents": [{"id": "report", "text": text}]}}
        answer = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "How high?"}], extra_body=own
        )
        assert answer.choices[0].message.content == f'"{text}" [report]'
        vectors = client.embeddings.create(model="auto", input=[text, "Sales fell."])
        assert [len(each.embedding) for each in vectors.data] == [384, 384]
        listed = [each.id for each in client.models.list()]
        assert listed == ["auto", answer.model, "all-minilm-l6-v2"]


def test_a_second_up_joins_and_one_after_a_killed_supervisor_starts_all_anew(
    demo: tuple[Stack, dict[str, Any]], home: Path, port_offset: int
) -> None:
    stack, _ = demo

    def parts() -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = stack.json("status")["parts"]
        assert {part["name"] for part in shown} == PARTS
        assert all(part["healthy"] for part in shown)
        return shown

    # The worker that the demo has killed last may still be starting.
    eventually_blocking(parts)
    first = present(home)
    assert first.gateway == f"127.0.0.1:{8080 + port_offset}"
    assert "Stepwire is up" in stack.run("up", "--detach")
    assert present(home).supervisor == first.supervisor, "a second up joins the first"

    first.supervisor.send(signal.SIGKILL)
    eventually_blocking(lambda: not any(p.is_alive() for p in processes(first)))
    assert stack.json("status", code=3)["phase"] == "killed"

    stack.run("up", "--detach")
    resident = sum(part["resident_bytes"] for part in eventually_blocking(parts))
    assert resident < 1.5 * 1024**3
    assert present(home).port_offset == port_offset, "the offset is remembered"
    hits = stack.json("search", "python-reference", "What is the pass statement good for?")
    assert hits, "what was stored is still there"
