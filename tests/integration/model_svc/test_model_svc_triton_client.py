"""A stock tritonclient, in an environment of its own, through the gateway."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.testing import running_envoy
from tests.integration.model_svc.graphs import write_encoder, write_repository
from tests.integration.model_svc.model_service import running_service

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / "tests" / "clients" / "tritonclient"
# Beside what else is built, so that later runs find it.
ENVIRONMENT = ROOT / "build" / "clients" / "tritonclient"
INSTALL_SECONDS = 120
RUN_SECONDS = 60


@pytest.fixture(scope="module")
def client_python() -> Path:
    """Give the client's interpreter; its environment is made once, if it can be had."""
    wanted = CLIENT / "requirements.txt"
    python, mark = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".installed"
    if mark.is_file() and mark.read_text() == wanted.read_text():
        return python
    uv = Path(sys.executable).parent / "uv"
    try:
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, ENVIRONMENT],
            [uv, "pip", "install", "--quiet", "--python", python, "--requirement", wanted],
        ):
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"tritonclient cannot be installed: {error}")
    mark.write_text(wanted.read_text())
    return python


@pytest_asyncio.fixture(scope="module")
async def seen(client_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give what the client saw."""
    folder = write_repository(tmp_path_factory.mktemp("repository"))
    write_encoder(folder / "tiny" / "1")
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "model.onnx").write_bytes(b"not a model")
    async with (
        running_service(repository_dir=folder, default_model="tiny") as service,
        running_envoy(tmp_path_factory.mktemp("envoy"), model_target=service.address) as envoy,
    ):
        process = await asyncio.create_subprocess_exec(
            *(client_python, CLIENT / "run.py", envoy.target),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    assert process.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(output)
    return found


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_client_works_unchanged(seen: dict[str, Any], protocol: str) -> None:
    found = seen[protocol]
    assert found["server"] == "stepwire-model"
    for name in ("live", "ready", "model_ready", "loaded_ready"):
        assert found[name] is True
    for name in ("broken_ready", "unloaded_ready"):
        assert found[name] is False
    assert found["scaled"] == [[2, 5]]
    assert found["joined"] == ["x", "éz"]
    assert found["product"] == [[5]]
    assert found["versions"] == ["1", "9", "10"]
    assert found["max_batch_size"] == 32
    assert found["successes"] >= 1
    assert found["states"]["scale"] == "READY"
    assert found["states"]["broken"] == "UNAVAILABLE"
    assert "no model 'gone'" in found["unknown"]
    assert found["broken_load"]


def test_the_grpc_client_streams(seen: dict[str, Any]) -> None:
    streamed = seen["grpc"]["streamed"]
    assert "no model 'gone'" in streamed.pop(2)
    assert streamed == [[[2, 5]]] * 4


def test_the_http_client_may_speak_json_alone(seen: dict[str, Any]) -> None:
    assert seen["http"]["as_json"] == [[2, 5]]
