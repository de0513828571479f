"""Runs with buffers of their own: on the CPU, and on a GPU where there is one."""

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from model_svc.export.cached import exported_model
from model_svc.export.variants import Variant
from model_svc.rows import bucketed, padded
from model_svc.running.openers import open_plain, open_text
from model_svc.running.plan import RunPlan
from model_svc.running.runtime import DEFAULT_PLAN, Runtime
from model_svc.sessions.bound import BoundSession
from model_svc.sessions.devices import Device, has_cuda
from model_svc.sessions.errors import DeviceError, InputRefusedError
from model_svc.sessions.memory import NO_LIMIT, GpuMemory
from model_svc.sessions.session import Session, is_device_fault
from model_svc.settings import ModelSettings
from model_svc.tensors import Tensor, Tokens
from stepwire.telemetry import meter
from tests.integration.model_svc.graphs import value, write_model, write_scale
from tests.integration.model_svc.tiny import VOCABULARY, write_checkpoint

OUTPUT = ["sentence_embedding"]

# Runs a model that needs more than its arena may have, and tells what ONNX Runtime says.
LIMITED = """
import sys
import numpy as np
import onnxruntime as ort

info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
ort.create_and_register_allocator(info, ort.OrtArenaCfg({"max_mem": 4096}))
options = ort.SessionOptions()
options.add_session_config_entry("session.use_env_allocators", "1")
session = ort.InferenceSession(sys.argv[1], options)
try:
    session.run(None, {"x": np.ones((4096, 2), dtype=np.float32)})
except Exception as error:
    print(error)
"""


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


def test_a_gpu_that_is_full_says_what_a_model_may_have_of_it(tmp_path: Path) -> None:
    # A CPU's memory with a limit: what ONNX Runtime says is the same for every device.
    write_scale(tmp_path / "m", 2)
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    told = subprocess.run(
        [sys.executable, script, tmp_path / "m" / "model.onnx"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "smaller than requested" in told
    error = RuntimeError(told)
    assert is_device_fault(error)
    said = GpuMemory(4096).device_error(error)
    assert str(said).startswith("the GPU's memory is used up, of which it may have 4096 bytes: ")
    assert str(NO_LIMIT.device_error(error)).startswith("the GPU's memory is used up: ")
    assert str(NO_LIMIT.device_error(RuntimeError("CUDA failure 700"))) == "CUDA failure 700"


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
@pytest.mark.parametrize("open_", [open_plain, open_text])
def test_sessions_are_opened_with_the_limit_of_a_gpus_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_: Callable[..., Session]
) -> None:
    write_scale(tmp_path / "m", 2)
    asked: list[Any] = []
    real = ort.InferenceSession

    def noting(*args: Any, providers: Any, **options: Any) -> Any:
        asked.append(providers)
        return real(*args, providers=providers, **options)

    monkeypatch.setattr(ort, "InferenceSession", noting)
    runtime = Runtime(
        ModelSettings(gpu_memory_bytes=1 << 30, gpu_memory_growth="requested"), meter()
    )
    own = RunPlan(gpu_memory_bytes=5_000_000, gpu_memory_growth="doubled")
    for plan in (DEFAULT_PLAN, own):
        # Without a GPU the provider is passed over.
        with suppress(DeviceError):
            open_(tmp_path / "m" / "model.onnx", runtime._memory(plan), Device.GPU, 1)
    open_(tmp_path / "m" / "model.onnx", runtime._memory(own), Device.CPU, 1)
    runtime.close()
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    limits = {"gpu_mem_limit": "1073741824", "arena_extend_strategy": "kSameAsRequested"}
    theirs = {"gpu_mem_limit": "5000000", "arena_extend_strategy": "kNextPowerOfTwo"}
    assert asked == [[(cuda, limits), cpu], [(cuda, theirs), cpu], [cpu]]
    assert "gpu_mem_limit" not in NO_LIMIT.provider_options()


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


@pytest.mark.skipif(not has_cuda(), reason="this onnxruntime has no CUDA, or there is no GPU")
def test_a_gpu_gives_a_model_no_more_memory_than_its_limit(tmp_path: Path) -> None:
    write_scale(tmp_path / "m", 2)
    path = tmp_path / "m" / "model.onnx"
    session = Session(path, device=Device.GPU, threads=1, memory=GpuMemory(16 << 20, "requested"))
    small = np.ones((8, 2), dtype=np.float32)
    assert np.array_equal(session.run({"x": small}, ["y"])[0], 2 * small)
    with pytest.raises(DeviceError, match="used up, of which it may have 16777216 bytes"):
        session.run({"x": np.ones((8 << 20, 2), dtype=np.float32)}, ["y"])
    assert np.array_equal(session.run({"x": small}, ["y"])[0], 2 * small)
