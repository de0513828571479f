"""Loads that never end: they fail in time, and harm nothing else."""

import asyncio
import os
import re
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_svc.repository.folder import FolderSource
from model_svc.repository.sources import Found, Loaded
from stepwire.errors import Reason
from stepwire.testing.poll import eventually
from tests.integration.model_svc.graphs import value, write_encoder, write_scale
from tests.integration.model_svc.model_service import RunningService, running_service
from tests.integration.model_svc.refusals import refusal

SECONDS = 3


def write_endless(home: Path) -> None:
    """Writes a model whose runs add 1 to their input for ever."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes_on"]),
            helper.make_node("Add", ["sum", "one"], ["more"]),
        ],
        "body",
        [
            value("times", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("sum", TensorProto.FLOAT, ["batch", 2]),
        ],
        [
            value("goes_on", TensorProto.BOOL, []),
            value("more", TensorProto.FLOAT, ["batch", 2]),
        ],
        [numpy_helper.from_array(np.ones(1, dtype=np.float32), "one")],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["", "begin", "x"], ["y"], body=body)],
        "endless",
        [value("x", TensorProto.FLOAT, ["batch", 2])],
        [value("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.array(True), "begin")],
    )
    home.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, home / "model.onnx")


async def fails(service: RunningService, name: str) -> str:
    """Loads a model in vain; returns the reason."""
    error = await refusal(service.load(name), grpc.StatusCode.FAILED_PRECONDITION)
    assert error.reason is Reason.MODEL_LOAD_FAILED
    return error.message


async def test_loads_that_hang_fail_and_harm_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_encoder(tmp_path / "tiny" / "1")
    write_scale(tmp_path / "scale" / "1", 2)
    write_scale(tmp_path / "other" / "1", 5)
    file, config = tmp_path / "scale" / "1" / "model.onnx", tmp_path / "stuck" / "config.pbtxt"
    whole, real = file.read_bytes(), FolderSource.load

    def load(source: FolderSource, found: Found, version: str) -> Loaded:
        # What a disk that stands still does between a look at a file and its reading.
        if found.config.name == "scale":
            file.unlink()
            os.mkfifo(file)
        return real(source, found, version)

    async with running_service(
        repository_dir=tmp_path, default_model="tiny", load_timeout_seconds=SECONDS, threads=2
    ) as service:
        assert await service.scale() == 2
        monkeypatch.setattr(FolderSource, "load", load)
        file.touch()
        write_scale(config.parent / "1", 2)
        os.mkfifo(config)
        write_endless(tmp_path / "endless" / "1")
        loads = asyncio.gather(*(fails(service, name) for name in ("scale", "stuck", "endless")))
        # The repository's other operations, meanwhile.
        await service.unload("other")
        await service.load("other")
        assert await service.scale("other") == 5
        scale, stuck, endless = await loads
        assert scale == f"loading model scale took longer than {SECONDS} seconds"
        assert stuck == f"looking at model stuck took longer than {SECONDS} seconds"
        assert re.search(f"model endless: its first run took longer than {SECONDS} sec", endless)
        assert await service.scale() == 2
        index = await service.index()
        assert index["scale", "1"] == ("READY", scale)
        assert index["endless", "1"] == ("UNAVAILABLE", endless)
        assert "was not begun" in await fails(service, "scale")
        # Whoever reads a pipe goes on once somebody has written to it.
        monkeypatch.setattr(FolderSource, "load", real)
        file.write_bytes(b"")
        config.write_text("")
        file.unlink()
        file.write_bytes(whole)
        await eventually(lambda: loaded(service, "scale"))
        assert (await service.index())["scale", "1"] == ("READY", "")


async def loaded(service: RunningService, name: str) -> bool:
    try:
        await service.load(name)
    except grpc.aio.AioRpcError:
        return False
    return True
