"""Runs with buffers of their own: on the CPU, and on a GPU where there is one."""

import gc
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from model_svc.export.cached import exported_model
from model_svc.export.variants import Variant
from model_svc.rows import bucketed, padded
from model_svc.sessions.bound import BoundSession
from model_svc.sessions.devices import Device, has_cuda
from model_svc.sessions.errors import InputRefusedError
from model_svc.sessions.session import Session, is_device_fault
from model_svc.tensors import Tensor, Tokens
from tests.integration.model_svc.graphs import value, write_model
from tests.integration.model_svc.tiny import VOCABULARY, write_checkpoint

OUTPUT = ["sentence_embedding"]


def inputs_of(*lengths: int, seed: int = 0) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    rows: list[Tokens] = [random.integers(0, VOCABULARY, length) for length in lengths]
    ids, mask = bucketed(*padded(rows))
    return {"input_ids": ids, "attention_mask": mask}


def bound(path: Path, *, max_buckets: int = 2) -> BoundSession:
    return BoundSession(path, device=Device.CPU, threads=1, graphs=False, max_buckets=max_buckets)


def test_bound_runs_give_what_plain_runs_give(tmp_path: Path, exports: Path) -> None:
    path = exported_model(write_checkpoint(tmp_path / "tiny"), exports, packed=False)
    session, plain = bound(path), Session(path, device=Device.CPU, threads=1)
    kept = []
    # More sizes than there are buckets, each with other contents the second time.
    for seed in range(2):
        for lengths in ((3, 5), (9, 9, 2), (20,) * 9, (30,)):
            inputs = inputs_of(*lengths, seed=seed)
            result = session.run(inputs, OUTPUT)[0]
            assert np.array_equal(result, plain.run(inputs, OUTPUT)[0])
            kept.append((result, result.copy()))
    # No run writes over the results of an earlier one.
    assert all(np.array_equal(result, copy) for result, copy in kept)


def test_refused_inputs_leave_a_bound_session_well(tmp_path: Path, exports: Path) -> None:
    path = exported_model(write_checkpoint(tmp_path / "tiny"), exports, packed=False)
    session = bound(path)
    inputs = inputs_of(3, 5)
    expected = session.run(inputs, OUTPUT)[0]
    wrong = {**inputs, "input_ids": np.full_like(inputs["input_ids"], 10_000)}
    with pytest.raises(InputRefusedError, match="out of data bounds"):
        session.run(wrong, OUTPUT)
    assert np.array_equal(session.run(inputs, OUTPUT)[0], expected)


class Watched(BoundSession):
    """Remembers the threads of its runs."""

    def _run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        self.threads = {*getattr(self, "threads", ()), threading.current_thread()}
        return super()._run(inputs, outputs)


def test_graphs_are_captured_and_replayed_in_one_thread(tmp_path: Path, exports: Path) -> None:
    path = exported_model(write_checkpoint(tmp_path / "tiny"), exports, packed=False)
    session = Watched(path, device=Device.CPU, threads=1, graphs=True)
    inputs = inputs_of(3, 5)
    expected = bound(path).run(inputs, OUTPUT)[0]
    both = threading.Barrier(2)

    def work(session: BoundSession) -> Tensor:
        both.wait()
        return session.run(inputs, OUTPUT)[0]

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(work, [session] * 2))
    assert all(np.array_equal(result, expected) for result in results)
    (thread,) = session.threads
    wrong = {**inputs, "input_ids": np.full_like(inputs["input_ids"], 10_000)}
    with pytest.raises(InputRefusedError, match="out of data bounds"):
        session.run(wrong, OUTPUT)
    del session
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_a_gpu_whose_memory_is_used_up_is_a_fault_of_the_device() -> None:
    # As ONNX Runtime says it; there is no word of a GPU in it.
    error = RuntimeError(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
        "MatMul node. Name:'MatMul_92' Status Message: core/framework/bfc_arena.cc:376 void* "
        "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
        "Failed to allocate memory for requested buffer of size 8388608000"
    )
    assert is_device_fault(error)


def test_buckets_add_little() -> None:
    for rows, columns in ((1, 1), (7, 9), (33, 65), (100, 130), (256, 256)):
        ids = np.ones((rows, columns), dtype=np.int64)
        wider, mask = bucketed(ids, ids)
        assert wider.shape == mask.shape
        assert mask.sum() == rows * columns
        for size, more in zip(ids.shape, wider.shape, strict=True):
            assert size <= more <= max(size + 7, size * 1.25)


def test_bfloat16_goes_through_as_bits(tmp_path: Path) -> None:
    write_model(
        tmp_path / "m",
        helper.make_node("Identity", ["x"], ["y"]),
        inputs=[value("x", TensorProto.BFLOAT16, ["n", 2])],
        outputs=[value("y", TensorProto.BFLOAT16, ["n", 2])],
    )
    session = Session(tmp_path / "m" / "model.onnx", device=Device.CPU, threads=1)
    bits = np.array([[1, 2], [0x3F80, 0xFFFF]], dtype="<u2")
    assert session.inputs[0].datatype == "BF16"
    assert np.array_equal(session.run({"x": bits}, ["y"])[0], bits)
    assert session.run({"x": bits[:0]}, ["y"])[0].shape == (0, 2)


@pytest.mark.skipif(not has_cuda(), reason="this onnxruntime has no CUDA, or there is no GPU")
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(("variant", "near"), [(Variant.FLOAT32, 1e-3), (Variant.FLOAT16, 1e-2)])
def test_a_gpu_gives_what_the_cpu_gives(
    tmp_path: Path, exports: Path, variant: Variant, near: float, *, graphs: bool
) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    exact = Session(exported_model(folder, exports), device=Device.CPU, threads=1)
    path = exported_model(folder, exports, variant=variant, packed=False)
    session = BoundSession(path, device=Device.GPU, threads=1, graphs=graphs)
    for seed in range(3):
        for lengths in ((3, 5), (9, 9, 2), (20,) * 9):
            inputs = inputs_of(*lengths, seed=seed)
            difference = session.run(inputs, OUTPUT)[0] - exact.run(inputs, OUTPUT)[0]
            assert np.abs(difference).max() < near
