"""Runs with buffers of their own: on the CPU, and on a GPU where there is one."""

import asyncio
import gc
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
from model_svc.sessions import bound as bound_module
from model_svc.sessions.bound import BoundSession
from model_svc.sessions.devices import Device
from model_svc.sessions.errors import DeviceError, InputRefusedError
from model_svc.sessions.graphs import GATE, CaptureGate
from model_svc.sessions.memory import NO_LIMIT, GpuMemory
from model_svc.sessions.session import Session
from model_svc.settings import ModelSettings
from model_svc.tensors import Tensor, Tokens
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.telemetry import meter
from stepwire.testing.poll import eventually_blocking
from tests.integration.model_svc.graphs import value, write_model, write_scale
from tests.integration.model_svc.model_service import running_service
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


def test_sizes_of_outputs_may_depend_on_what_is_in_the_inputs(tmp_path: Path) -> None:
    write_model(
        tmp_path / "m",
        helper.make_node("NonZero", ["x"], ["y"]),
        inputs=[value("x", TensorProto.INT64, ["n"])],
        outputs=[value("y", TensorProto.INT64, [1, "found"])],
    )
    session = bound(tmp_path / "m" / "model.onnx")
    for row in ([1, 0, 1], [0, 0, 1], [1, 1, 1]):
        (found,) = session.run({"x": np.array(row)}, ["y"])
        assert found.tolist() == [np.flatnonzero(row).tolist()]
    # A replay could not say how many it found.
    assert session._output_buffers({"x": np.array([1])}, ["y"]) == {}


def test_sizes_beyond_those_that_are_captured_run_without_a_graph(
    tmp_path: Path, exports: Path
) -> None:
    path = exported_model(write_checkpoint(tmp_path / "tiny"), exports, packed=False)
    session, plain = bound(path), Session(path, device=Device.CPU, threads=1)
    # As on a GPU, though the CPU heeds no ids.
    session._graphs = True
    for seed in range(2):
        for lengths in ((3, 5), (9, 9, 2), (20,) * 9, (30,)):
            inputs = inputs_of(*lengths, seed=seed)
            expected = plain.run(inputs, OUTPUT)[0]
            assert np.array_equal(session.run(inputs, OUTPUT)[0], expected)
    buckets = list(session._buckets.values())
    assert [each.options.get_run_config_entry("gpu_graph_id") for each in buckets] == ["0", "1"]
    assert [list(each.outputs) for each in buckets] == [OUTPUT, OUTPUT]
    assert not any(each.capturing for each in buckets)
    other = session._bucket(("other",), inputs_of(30), OUTPUT)
    assert other.options.get_run_config_entry("gpu_graph_id") == "-1"
    assert other.outputs == {}


@pytest.fixture
def capturing(tmp_path: Path, exports: Path) -> BoundSession:
    """Give a session that waits as on a GPU, though the CPU captures nothing."""
    path = exported_model(write_checkpoint(tmp_path / "tiny"), exports, packed=False)
    session = bound(path)
    session._graphs, session._gate = True, GATE.use
    return session


def test_a_graph_is_captured_while_nothing_else_uses_the_gpu(
    capturing: BoundSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound_module, "_PATIENCE_SECONDS", 60.0)
    inputs, answers = inputs_of(3, 5), []
    with GATE.use():
        runs = threading.Thread(target=lambda: answers.append(capturing.run(inputs, OUTPUT)))
        runs.start()
        eventually_blocking(lambda: GATE._captures == 1)
        assert answers == []
    runs.join()
    assert len(answers) == 1
    # Replays get along with everything.
    with GATE.use():
        capturing.run(inputs, OUTPUT)


def test_who_loses_patience_uses_the_gpu_after_the_capture() -> None:
    gate, alone = CaptureGate(), []

    def impatient() -> None:
        with gate.capture(0.0) as captures:
            alone.append(captures)

    with gate.capture(60.0) as captures:
        assert captures
        other = threading.Thread(target=impatient)
        other.start()
        eventually_blocking(lambda: gate._changed._waiters)
        assert alone == []
    other.join()
    assert alone == [False]


def test_a_capture_does_not_wait_for_what_hangs(
    capturing: BoundSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound_module, "_PATIENCE_SECONDS", 0.0)
    inputs = inputs_of(3, 5)
    with GATE.use():
        without = capturing.run(inputs, OUTPUT)[0]
        assert capturing._buckets == {}
    with_graph = capturing.run(inputs, OUTPUT)[0]
    assert len(capturing._buckets) == 1
    assert np.array_equal(without, with_graph)
    assert (GATE._uses, GATE._captures, GATE._capturing) == (0, 0, False)


def test_int8_is_for_the_cpu(weights: Path, cache_dir: Path) -> None:
    runtime = Runtime(ModelSettings(provider="cuda", threads=1, cache_dir=cache_dir), meter())
    model = runtime.load_encoder("m", "1", weights, Variant.INT8)
    assert (model.device, model.fallback) == ("cpu", "")
    asyncio.run(model.close())
    runtime.close()


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


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(("variant", "near"), [(Variant.FLOAT32, 5e-3), (Variant.FLOAT16, 1e-2)])
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


@pytest.mark.usefixtures("gpu")
def test_graphs_are_captured_while_other_models_use_the_gpu(tmp_path: Path, exports: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    exact = Session(exported_model(folder, exports), device=Device.CPU, threads=1)
    path = exported_model(folder, exports, packed=False)
    sessions = [
        BoundSession(path, device=Device.GPU, threads=1, graphs=graphs) for graphs in (True, False)
    ] * 2
    batches = [inputs_of(*[length] * rows) for length in range(2, 30, 3) for rows in (3, 17, 40)]
    expected = [exact.run(batch, OUTPUT)[0] for batch in batches]

    def work(session: BoundSession) -> list[Tensor]:
        return [session.run(batch, OUTPUT)[0] for batch in batches]

    with ThreadPoolExecutor(4) as threads:
        for results in threads.map(work, sessions):
            for result, wanted in zip(results, expected, strict=True):
                assert np.abs(result - wanted).max() < 5e-3


@pytest.mark.usefixtures("gpu")
async def test_a_gpu_serves_the_embedding_model(weights: Path, cache_dir: Path) -> None:
    texts = ["a cat", "The quick brown fox jumps over the lazy dog. " * 9]
    vectors = []
    for provider, graphs in (("cpu", False), ("cuda", False), ("cuda", True)):
        chosen = {"provider": provider, "cuda_graphs": graphs, "cache_dir": cache_dir}
        async with running_service(**chosen) as service:
            response = await service.texts.Embed(pb.EmbedRequest(texts=texts))
            assert response.run.device == ("cpu" if provider == "cpu" else "gpu")
            assert response.run.fallback == ""
            vectors.append(np.frombuffer(response.vectors, "<f4").reshape(2, -1))
    exact, *others = vectors
    for other in others:
        assert (exact * other).sum(axis=1).min() > 0.999


@pytest.mark.usefixtures("gpu")
def test_a_gpu_gives_a_model_no_more_memory_than_its_limit(tmp_path: Path) -> None:
    write_scale(tmp_path / "m", 2)
    path = tmp_path / "m" / "model.onnx"
    session = Session(path, device=Device.GPU, threads=1, memory=GpuMemory(16 << 20, "requested"))
    small = np.ones((8, 2), dtype=np.float32)
    assert np.array_equal(session.run({"x": small}, ["y"])[0], 2 * small)
    with pytest.raises(DeviceError, match="used up, of which it may have 16777216 bytes"):
        session.run({"x": np.ones((8 << 20, 2), dtype=np.float32)}, ["y"])
    assert np.array_equal(session.run({"x": small}, ["y"])[0], 2 * small)
