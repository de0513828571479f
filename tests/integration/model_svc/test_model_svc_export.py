import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from model_svc.export import cached
from model_svc.export.cached import exported_model
from model_svc.export.checkpoint import CheckpointError, read_config
from model_svc.export.variants import Variant, read_accuracy
from model_svc.rows import bucketed, padded
from model_svc.running.plan import Pooling
from model_svc.sessions.devices import Device
from model_svc.sessions.session import Session
from model_svc.tensors import Tokens, Vectors
from tests.integration.model_svc.reference import ReferenceEncoder
from tests.integration.model_svc.tiny import HIDDEN, LAYERS, POSITIONS, VOCABULARY, write_checkpoint

LENGTHS = (1, 2, 5, 9, 20, POSITIONS)


def rows() -> list[Tokens]:
    random = np.random.default_rng(3)
    return [random.integers(0, VOCABULARY, length) for length in LENGTHS]


def run(session: Session, ids: Tokens, mask: Tokens) -> Vectors:
    return session.run({"input_ids": ids, "attention_mask": mask}, ["sentence_embedding"])[0]


def load(path: Path) -> Session:
    return Session(path, device=Device.CPU, threads=1)


@pytest.mark.parametrize(
    ("mode", "pooling", "normalize"),
    [
        ("pooling_mode_mean_tokens", "mean", True),
        ("pooling_mode_mean_tokens", "mean", False),
        ("pooling_mode_cls_token", "first", True),
    ],
)
def test_the_graph_computes_what_the_reference_computes(
    tmp_path: Path, exports: Path, mode: str, pooling: str, *, normalize: bool
) -> None:
    folder = write_checkpoint(tmp_path / "tiny", pooling=mode, normalize=normalize)
    reference = ReferenceEncoder(folder, pooling=pooling, normalize=normalize)
    vectors = run(load(exported_model(folder, exports)), *padded(rows()))
    assert vectors.dtype == np.float32
    for row, vector in zip(rows(), vectors, strict=True):
        assert np.abs(vector - reference.encode(row.tolist())).max() < 1e-5


@pytest.mark.parametrize("packed", [True, False])
def test_both_poolings_can_be_read_before_normalization(
    tmp_path: Path, exports: Path, *, packed: bool
) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    session = load(exported_model(folder, exports, packed=packed))
    ids, mask = padded(rows())
    inputs = {"input_ids": ids, "attention_mask": mask}
    own, mean, first = session.run(
        inputs, ["sentence_embedding", "mean_embedding", "first_embedding"]
    )
    for pooling, vectors in (("mean", mean), ("first", first)):
        reference = ReferenceEncoder(folder, pooling=pooling, normalize=False)
        for row, vector in zip(rows(), vectors, strict=True):
            assert np.abs(vector - reference.encode(row.tolist())).max() < 1e-5
    assert np.abs(own - mean / np.linalg.norm(mean, axis=1, keepdims=True)).max() < 1e-6


def test_the_graph_for_gpus_computes_the_same_padded_to_buckets(
    tmp_path: Path, exports: Path
) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    paths = [exported_model(folder, exports, packed=packed) for packed in (True, False)]
    packed, whole = map(load, paths)
    few = [row for row in rows() if len(row) <= 9]
    ids, mask = bucketed(*padded(few))
    assert ids.shape == (8, 16)
    expected = run(packed, *padded(few))
    assert np.abs(run(whole, ids, mask)[: len(few)] - expected).max() < 1e-6
    graph = onnx.load(paths[1], load_external_data=False).graph
    # What CUDA graphs do not allow: sizes that depend on data, and what copies them to the GPU.
    assert not {"NonZero", "Range"} & {node.op_type for node in graph.node}


@pytest.mark.parametrize(
    ("variant", "packed", "least"),
    [(Variant.INT8, True, 0.98), (Variant.FLOAT16, True, 0.9999), (Variant.FLOAT16, False, 0.9999)],
)
def test_a_smaller_variant_is_near_to_the_exact_one(
    tmp_path: Path, exports: Path, variant: Variant, least: float, *, packed: bool
) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    exact = run(load(exported_model(folder, exports)), *padded(rows()))
    path = exported_model(folder, exports, variant=variant, packed=packed)
    vectors = run(load(path), *padded(rows()))
    assert np.abs(vectors - exact).max() > 0
    cosines = (vectors * exact).sum(axis=1) / np.linalg.norm(vectors, axis=1)
    assert cosines.min() > least


def test_what_int8_loses_is_measured_beside_the_model(weights: Path, cache_dir: Path) -> None:
    path = exported_model(weights, cache_dir, variant=Variant.INT8)
    accuracy = read_accuracy(path.parent)
    assert accuracy is not None
    assert accuracy.texts >= 10
    assert 0.98 <= accuracy.cosine_min <= accuracy.cosine_mean <= 1
    assert read_accuracy(exported_model(weights, cache_dir).parent) is None


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, exports: Path) -> Session:
    folder = tmp_path_factory.mktemp("tiny")
    return load(exported_model(write_checkpoint(folder / "checkpoint"), exports))


def test_padding_changes_nothing(tiny: Session) -> None:
    together = run(tiny, *padded(rows()))
    alone = np.concatenate([run(tiny, *padded([row])) for row in rows()])
    assert np.abs(together - alone).max() < 1e-6


def test_padding_may_hold_any_token(tiny: Session) -> None:
    ids, mask = padded(rows())
    expected = run(tiny, ids, mask)
    ids[mask == 0] = VOCABULARY - 1
    assert np.array_equal(run(tiny, ids, mask), expected)


def test_a_mask_may_hide_any_tokens(tiny: Session) -> None:
    ids = np.array([[3, 4, 5, 6]])
    hidden_end = run(tiny, ids, np.array([[1, 1, 0, 0]]))
    assert np.abs(hidden_end - run(tiny, ids[:, :2], np.array([[1, 1]]))).max() < 1e-6
    hidden_begin = run(tiny, ids, np.array([[0, 0, 1, 1]]))
    other_begin = run(tiny, np.array([[9, 8, 5, 6]]), np.array([[0, 0, 1, 1]]))
    assert np.abs(hidden_begin - other_begin).max() < 1e-6
    assert np.abs(hidden_begin - hidden_end).max() > 0.1


def test_a_text_without_tokens_has_the_vector_zero(tiny: Session) -> None:
    ids, mask = np.array([[1, 2], [3, 4]]), np.array([[0, 0], [1, 1]])
    vectors = run(tiny, ids, mask)
    assert vectors[0].tolist() == [0] * HIDDEN
    assert np.linalg.norm(vectors[1]) == pytest.approx(1)
    assert run(tiny, ids, np.zeros_like(mask)).tolist() == [[0] * HIDDEN] * 2


def test_the_exported_model_is_found_again(tmp_path: Path, exports: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    path = exported_model(folder, exports)
    written = path.stat().st_mtime_ns
    assert exported_model(folder, exports) == path
    assert path.stat().st_mtime_ns == written
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-5}))
    assert exported_model(folder, exports) != path


def test_weights_that_change_meanwhile_are_not_kept_under_the_name_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = write_checkpoint(tmp_path / "tiny"), tmp_path / "cache"
    export = cached._export

    def slow(checkpoint: Path, target: Path, **options: Any) -> None:
        export(checkpoint, target, **options)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-5}))

    monkeypatch.setattr(cached, "_export", slow)
    with pytest.raises(CheckpointError, match="tiny changed while it was exported"):
        exported_model(folder, cache)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.onnx", b"half"), ("weights.bin", b"half"), ("sizes.json", b"{"), ("sizes.json", b"0")],
)
def test_a_damaged_export_is_written_again(tmp_path: Path, name: str, content: bytes) -> None:
    folder, cache = write_checkpoint(tmp_path / "tiny"), tmp_path / "cache"
    path = exported_model(folder, cache)
    expected = run(load(path), *padded(rows()))
    # As a loss of power may leave it.
    (path.parent / name).write_bytes(content)
    assert exported_model(folder, cache) == path
    assert (path.parent / name).read_bytes() != content
    assert np.array_equal(run(load(path), *padded(rows())), expected)
    assert list(cache.iterdir()) == [path.parent]


def test_an_export_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    folder, cache = write_checkpoint(tmp_path / "tiny"), tmp_path / "cache"
    with pytest.raises(CheckpointError, match=r"its export took longer than 0.001 seconds"):
        exported_model(folder, cache, timeout_seconds=0.001)
    assert list(cache.iterdir()) == []


def test_what_killed_exports_left_is_removed(tmp_path: Path) -> None:
    folder, cache = write_checkpoint(tmp_path / "tiny"), tmp_path / "cache"
    left, under_way = cache / "draft-left", cache / "draft-now"
    for draft in (left, under_way):
        draft.mkdir(parents=True)
        (draft / "weights.bin").write_bytes(b"half")
    os.utime(left, (0, 0))
    path = exported_model(folder, cache, variant=Variant.INT8)
    assert set(cache.iterdir()) == {path.parent, under_way}


def test_several_processes_may_export_at_once(tmp_path: Path) -> None:
    folder, cache = write_checkpoint(tmp_path / "tiny"), tmp_path / "cache"
    with ThreadPoolExecutor(2) as threads:
        paths = set(threads.map(lambda _: exported_model(folder, cache), range(2)))
    (path,) = paths
    assert list(cache.iterdir()) == [path.parent]
    assert run(load(path), *padded(rows())).shape == (len(LENGTHS), HIDDEN)


def test_the_configuration_is_read_from_the_folder(tmp_path: Path) -> None:
    config = read_config(write_checkpoint(tmp_path / "tiny", pooling="pooling_mode_cls_token"))
    assert (config.layers, config.hidden, config.max_tokens) == (LAYERS, HIDDEN, 20)
    assert config.pooling is Pooling.FIRST
    assert config.normalize


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "roberta"),
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
    ],
)
def test_other_kinds_of_models_are_refused(tmp_path: Path, key: str, value: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny", config={key: value})
    with pytest.raises(CheckpointError, match=f"{key} is '{value}'"):
        read_config(folder)


def test_other_poolings_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", pooling="pooling_mode_max_tokens")
    with pytest.raises(CheckpointError, match="pooling_mode_max_tokens"):
        read_config(folder)


def load_checkpoint(folder: Path, cache: Path) -> None:
    """As the service does it."""
    read_config(folder)
    exported_model(folder, cache)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_attention_heads": 3}, "3 heads do not share 16 numbers evenly"),
        ({"layer_norm_eps": math.nan}, "layer_norm_eps is nan"),
        ({"vocab_size": 10}, r"has shape \(50, 16\), must have \(10, 16\)"),
    ],
)
def test_a_configuration_that_is_not_that_of_the_weights_is_refused(
    tmp_path: Path, config: dict[str, object], says: str
) -> None:
    folder = write_checkpoint(tmp_path / "tiny", config=config)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(folder, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[]"),
        ("config.json", b"\xff"),
        ("modules.json", b"[1]"),
        ("1_Pooling/config.json", b"[]"),
        ("model.safetensors", b"half"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name) as raised:
        load_checkpoint(folder, tmp_path / "cache")
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "1_Pooling/config.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        exported_model(folder, tmp_path / "cache")


def test_a_missing_tensor_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    missing = "encoder.layer.1.output.dense.bias"
    folder = write_checkpoint(tmp_path / "tiny", leave_out=missing)
    with pytest.raises(CheckpointError, match=missing):
        exported_model(folder, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_command_exports_into_a_folder(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    command = [sys.executable, "-m", "model_svc.export", str(folder), str(tmp_path)]
    subprocess.run(command, check=True)
    assert run(load(tmp_path / "model.onnx"), *padded(rows())).shape == (len(LENGTHS), HIDDEN)
