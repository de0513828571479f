import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from model_svc.encoder import SessionEncoder
from model_svc.export.cached import exported_model
from model_svc.sessions import Runner, Session
from model_svc.tensors import Tensor, Tokens
from stepwire.testing.poll import eventually
from tests.integration.model_svc.tiny import write_checkpoint


class WatchedSession(Session):
    """Counts its runs; a run begins when it is let."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, providers=["CPUExecutionProvider"], threads=1)
        self.runs = 0
        self.gate = threading.Event()

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        self.runs += 1
        self.gate.wait()
        return super().run(inputs, outputs)


def row(*ids: int) -> Tokens:
    return np.array(ids, dtype=np.int64)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return exported_model(write_checkpoint(tmp_path / "tiny"), tmp_path / "cache")


async def test_only_a_batch_that_runs_alone_has_all_threads(model: Path) -> None:
    alone, beside, runner = WatchedSession(model), WatchedSession(model), Runner(2)
    encoder = SessionEncoder(alone=alone, beside=beside, runner=runner)
    first = asyncio.create_task(encoder([row(1, 2, 3)]))
    await eventually(lambda: alone.runs == 1)
    second = asyncio.create_task(encoder([row(1, 2, 3)]))
    await eventually(lambda: beside.runs == 1)
    alone.gate.set()
    beside.gate.set()
    assert np.abs(await first - await second).max() < 1e-6
    await encoder([row(4)])
    assert (alone.runs, beside.runs) == (2, 1)
    runner.close()


async def test_a_failed_run_does_not_count_as_running(model: Path) -> None:
    alone, beside, runner = WatchedSession(model), WatchedSession(model), Runner(2)
    alone.gate.set()
    encoder = SessionEncoder(alone=alone, beside=beside, runner=runner)
    with pytest.raises(Exception, match="out of data bounds"):
        await encoder([row(10_000)])
    await encoder([row(4)])
    assert (alone.runs, beside.runs) == (2, 0)
    runner.close()
