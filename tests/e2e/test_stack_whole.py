"""The whole local stack, as a user runs it: up, status, a killed supervisor, down."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from stepwire.stack.mark import ProcessMark
from stepwire.stack.ports import DEFAULTS, is_free
from stepwire.stack.state import StackState, read_state
from stepwire.testing.poll import eventually_blocking

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
PARTS = {
    *("postgres", "rabbitmq", "collector", "model", "vector", "router", "executor"),
    *("companion", "gateway", "worker-1", "worker-2"),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def port_offset() -> int:
    ports = [default.number for default in DEFAULTS.values()] + [9112]
    for offset in random.sample(range(1000, 8000, 20), 100):
        if all(is_free(port + offset) for port in ports):
            return offset
    pytest.fail("no free range of ports")


def stepwire(home: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from stepwire.cli import main; main()", *words],
        # An offset of the user's own would win over the one that is to be remembered.
        env={**os.environ, "STEPWIRE_HOME": str(home), "STEPWIRE_PORT_OFFSET": ""},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def present(home: Path) -> StackState:
    state = read_state(home)
    assert state is not None
    return state


def processes(state: StackState) -> list[ProcessMark]:
    return [part.process for part in state.parts if part.process is not None]


def status(home: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(stepwire(home, "status", "-o", "json"))
    return answer


def answers_openai_clients(url: str) -> None:
    with openai.OpenAI(base_url=url, api_key="none") as client:
        text = "The river rose by a metre."
        own = {"stepwire": {"documents": [{"id": "report", "text": text}]}}
        answer = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "How high?"}], extra_body=own
        )
        assert answer.choices[0].message.content == f'"{text}" [report]'
        vectors = client.embeddings.create(model="auto", input=[text, "Sales fell."])
        assert [len(each.embedding) for each in vectors.data] == [384, 384]
        assert [each.id for each in client.models.list()] == ["auto", answer.model]


def test_up_a_killed_supervisor_up_again_and_down(home: Path, port_offset: int) -> None:
    stepwire(home, "up", "--detach", "--port-offset", str(port_offset))
    try:
        shown = status(home)
        assert {part["name"] for part in shown["parts"]} == PARTS
        assert all(part["healthy"] for part in shown["parts"])
        assert sum(part["resident_bytes"] for part in shown["parts"]) < 1.5 * 1024**3
        assert present(home).gateway == f"127.0.0.1:{8080 + port_offset}"
        answers_openai_clients(f"http://{present(home).gateway}/v1")
        assert "Stepwire is up" in stepwire(home, "up", "--detach"), "a second up joins the first"

        first = present(home)
        first.supervisor.send(signal.SIGKILL)
        eventually_blocking(lambda: not any(p.is_alive() for p in processes(first)), 30)
        assert json.loads(stepwire(home, "status", "-o", "json", code=3))["phase"] == "killed"

        stepwire(home, "up", "--detach")
        again = present(home)
        assert again.port_offset == port_offset, "the offset is remembered"
        assert all(part["healthy"] for part in status(home)["parts"])
    finally:
        stepwire(home, "down", "--purge")
    assert not any(process.is_alive() for process in processes(again))
    assert not home.exists()
