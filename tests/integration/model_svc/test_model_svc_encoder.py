import asyncio
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from model_svc.encoder import Encoder, Row
from model_svc.export.cached import exported_model
from model_svc.ports import EmbedOptions, InferCall
from model_svc.readouts import Readout, exported_readouts, graph_readouts
from model_svc.running.budgets import TokenBudget
from model_svc.running.plan import Pooling, RunPlan, TextPlan
from model_svc.running.runtime import Runtime
from model_svc.sessions.devices import Device
from model_svc.sessions.engine import Engine
from model_svc.sessions.errors import DeviceError, InputRefusedError, ModelLoadError
from model_svc.sessions.runner import Runner
from model_svc.sessions.same_file import same_file
from model_svc.sessions.session import Session
from model_svc.settings import ModelSettings
from model_svc.tensors import Tensor, TensorSpec, Tokens
from model_svc.tokenize import TextTokenizer
from stepwire.errors import Reason, StepwireError
from stepwire.telemetry import meter
from tests.integration.model_svc.graphs import WORDS, write_encoder, write_scale
from tests.integration.model_svc.tiny import HIDDEN, write_checkpoint

OWN = Readout("sentence_embedding")


class Watched(Session):
    """Says that it is the device it was asked for, counts its runs, and fails if told to."""

    opened: list["Watched"]

    def __init__(self, path: Path, device: Device, threads: int) -> None:
        super().__init__(path, device=Device.CPU, threads=threads)
        self.device = device
        self.threads = threads
        self.runs = 0
        self.shapes: list[tuple[int, ...]] = []
        self.broken = False

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        self.runs += 1
        self.shapes.append(next(iter(inputs.values())).shape)
        if self.broken:
            raise DeviceError("CUDA failure 700: an illegal memory access was encountered")
        return super().run(inputs, outputs)


class Opener:
    """Opens sessions of one model, and remembers them."""

    def __init__(self, path: Path, *, without_gpu: bool = False) -> None:
        self.path = path
        self.without_gpu = without_gpu
        self.sessions: list[Watched] = []

    def __call__(self, device: Device, threads: int) -> Watched:
        if device is Device.GPU and self.without_gpu:
            raise DeviceError("CUDA driver version is insufficient for CUDA runtime version")
        self.sessions.append(Watched(self.path, device, threads))
        return self.sessions[-1]


@pytest.fixture
def opener(model: Path) -> Opener:
    return Opener(model)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, exports: Path) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return exported_model(write_checkpoint(folder / "checkpoint"), exports)


def row(*ids: int) -> Tokens:
    return np.array(ids, dtype=np.int64)


def inputs_of(ids: Sequence[int]) -> dict[str, Tensor]:
    return {"input_ids": row(*ids)[np.newaxis], "attention_mask": row(*[1] * len(ids))[np.newaxis]}


def run(engine: Engine, *, alone: bool = True) -> tuple[list[Tensor], Device]:
    return engine.run(inputs_of([1, 2, 3]), ["sentence_embedding"], alone=alone)


def test_only_a_batch_that_runs_alone_has_all_threads(opener: Opener) -> None:
    engine = Engine(opener, device=Device.CPU, threads=2, twofold=True)
    whole, part = opener.sessions
    assert (whole.threads, part.threads) == (2, 1)
    run(engine, alone=True)
    run(engine, alone=False)
    run(engine, alone=False)
    assert (whole.runs, part.runs) == (1, 2)


def test_a_large_model_is_loaded_once(opener: Opener) -> None:
    engine = Engine(opener, device=Device.CPU, threads=2, twofold=False)
    run(engine, alone=False)
    assert [session.threads for session in opener.sessions] == [2]


def test_without_a_gpu_the_model_runs_on_the_cpu_and_says_so(model: Path) -> None:
    opener = Opener(model, without_gpu=True)
    engine = Engine(opener, device=Device.GPU, threads=1, twofold=False)
    assert engine.device is Device.CPU
    assert "CUDA driver" in engine.fallback
    assert run(engine)[1] is Device.CPU


def test_a_gpu_that_must_be_there_is_an_error_when_it_is_not(model: Path) -> None:
    with pytest.raises(DeviceError, match="CUDA driver"):
        Engine(
            Opener(model, without_gpu=True),
            device=Device.GPU,
            threads=1,
            twofold=False,
            strict=True,
        )


def test_what_a_gpu_cannot_do_is_done_on_the_cpu(opener: Opener) -> None:
    engine = Engine(opener, device=Device.GPU, threads=1, twofold=False)
    expected, device = run(engine)
    assert (device, engine.fallback) == (Device.GPU, "")
    (gpu,) = opener.sessions
    gpu.broken = True
    results, device = run(engine)
    assert device is Device.CPU
    assert np.array_equal(results[0], expected[0])
    # It is tried again, until it has failed three times in a row.
    gpu.broken = False
    assert run(engine)[1] is Device.GPU
    gpu.broken = True
    for _ in range(3):
        assert engine.fallback == ""
        assert run(engine)[1] is Device.CPU
    assert engine.device is Device.CPU
    assert "illegal memory access" in engine.fallback
    before = gpu.runs
    run(engine)
    assert gpu.runs == before


def test_other_weights_do_not_take_the_place_of_a_device(model: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(model.parent, tmp_path / "model")) / model.name
    opener = Opener(path)
    engine = Engine(same_file(path, opener), device=Device.GPU, threads=1, twofold=False)
    (gpu,) = opener.sessions
    gpu.broken = True
    path.with_name("new").write_bytes(model.read_bytes())
    path.with_name("new").rename(path)
    with pytest.raises(StepwireError, match="has changed since it was loaded") as raised:
        run(engine)
    assert raised.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    gpu.broken = False
    assert run(engine)[1] is Device.GPU


async def test_a_model_that_may_move_to_the_cpu_has_threads_for_all_its_slots() -> None:
    runtime = Runtime(ModelSettings(threads=3, gpu_slots=1), meter())
    runner, all_at_once = runtime._runner(), threading.Barrier(3)
    await asyncio.gather(*(runner.run(all_at_once.wait, 10) for _ in range(3)))
    runner.close()
    runtime.close()


def test_an_encoder_that_fails_at_once_leaves_nothing_behind(tmp_path: Path) -> None:
    write_encoder(tmp_path / "1")
    path = tmp_path / "1" / "model.onnx"
    graph = onnx.load(path)
    # No token has a vector.
    empty = onnx.numpy_helper.from_array(np.zeros((0, 4), dtype=np.float32), "table")
    graph.graph.initializer[0].CopyFrom(empty)
    onnx.save(graph, path)
    runtime = Runtime(ModelSettings(threads=1), meter())
    with pytest.raises(ModelLoadError, match="its first run failed"):
        runtime.load_text("m", "1", path, TextPlan(tmp_path / "1" / "tokenizer.json"))
    assert runtime._pools[Device.CPU].is_empty
    runtime.close()


async def test_a_batch_of_texts_that_a_gpu_fails_at_is_cut_for_the_cpu(tmp_path: Path) -> None:
    write_encoder(tmp_path / "1")
    opener = Opener(tmp_path / "1" / "model.onnx")
    engine = Engine(opener, device=Device.GPU, threads=1, twofold=False)
    (gpu,) = opener.sessions
    chosen = ModelSettings(threads=1, gpu_max_batch_tokens=64, max_batch_tokens=8)
    runtime = Runtime(chosen, meter())
    model = runtime._encoder(
        "m",
        "1",
        engine,
        RunPlan(),
        tokenizer=TextTokenizer(tmp_path / "1" / "tokenizer.json", 16),
        readouts=graph_readouts(engine.outputs, Pooling.FIRST, normalized=True),
        prefixes={},
        matryoshka_dimensions=(),
        vocabulary=len(WORDS),
        positions=16,
    )
    texts = [f"{first} {second}" for first in WORDS[1:] for second in WORDS[1:]] * 3
    expected = await model.embed(texts)
    assert gpu.shapes[-1] == (32, 8)
    assert (expected.ran.batch_items, expected.ran.device) == (27, "gpu")
    gpu.broken = True
    for _ in range(3):
        embedded = await model.embed(texts)
        assert np.array_equal(embedded.vectors, expected.vectors)
        assert (embedded.ran.batch_items, embedded.ran.device) == (27, "cpu")
    assert "illegal memory access" in model.fallback
    embedded = await model.embed(texts)
    assert np.array_equal(embedded.vectors, expected.vectors)
    # From now on batches are made for the CPU; nothing ever ran there that was not.
    assert embedded.ran.batch_items == 4
    cpu = opener.sessions[1]
    assert set(cpu.shapes) == {(4, 2), (3, 2)}
    await model.close()
    runtime.close()


async def test_requests_that_a_gpu_fails_at_are_run_in_batches_for_the_cpu(tmp_path: Path) -> None:
    write_scale(tmp_path / "1", 2)
    opener = Opener(tmp_path / "1" / "model.onnx")
    engine = Engine(opener, device=Device.GPU, threads=1, twofold=False)
    (gpu,) = opener.sessions
    gpu.broken = True
    runtime = Runtime(ModelSettings(threads=1, gpu_slots=1), meter())
    model = runtime._generic("m", "1", engine, RunPlan(max_batch_rows=16, cpu_batch_rows=4))
    inputs = [np.full((1, 2), number, dtype=np.float32) for number in range(40)]
    answers = await asyncio.gather(*(model.infer(InferCall({"x": x}, ["y"])) for x in inputs))
    for x, answer in zip(inputs, answers, strict=True):
        assert np.array_equal(answer.tensors[0], 2 * x)
        assert answer.ran.device == "cpu"
    assert max(gpu.shapes) == (16, 2)
    assert max(opener.sessions[1].shapes) == (4, 2)
    await model.close()
    runtime.close()


def test_inputs_that_are_refused_are_no_fault_of_the_device(opener: Opener) -> None:
    engine = Engine(opener, device=Device.GPU, threads=1, twofold=False)
    for _ in range(4):
        with pytest.raises(InputRefusedError, match="out of data bounds"):
            engine.run(inputs_of([10_000]), ["sentence_embedding"], alone=True)
    assert engine.device is Device.GPU


async def test_texts_of_one_batch_may_be_read_in_different_ways(model: Path) -> None:
    engine = Engine(Opener(model), device=Device.CPU, threads=1, twofold=False)
    runner = Runner(1)
    encoder = Encoder(engine, runner, TokenBudget(512))
    first = Readout("first_embedding", normalize=True)
    rows = [Row(row(1, 2, 3), OWN), Row(row(4, 5), first), Row(row(1, 2, 3), first)]
    together = (await encoder(rows, alone=True)).results
    for item, vector in zip(rows, together, strict=True):
        (alone,) = (await encoder([item], alone=True)).results
        assert np.abs(vector - alone).max() < 1e-6
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.abs(together[0] - together[2]).max() > 0.01
    runner.close()


def test_an_exported_model_has_every_readout() -> None:
    readouts = exported_readouts(Pooling.MEAN, normalized=True)
    assert readouts.find(EmbedOptions()) == OWN
    assert readouts.find(EmbedOptions(pooling=Pooling.MEAN, normalize=True)) == OWN
    assert readouts.find(EmbedOptions(normalize=False)) == Readout("mean_embedding")
    first = Readout("first_embedding", normalize=True)
    assert readouts.find(EmbedOptions(pooling=Pooling.FIRST)) == first


def test_a_foreign_graph_is_read_by_its_outputs() -> None:
    tokens = TensorSpec("last_hidden_state", "FP32", ("batch", "sequence", HIDDEN))
    vectors = TensorSpec("sentence_embedding", "FP32", ("batch", HIDDEN))
    by_tokens = graph_readouts([tokens], Pooling.FIRST, normalized=True)
    assert by_tokens.find(EmbedOptions()) == Readout(
        "last_hidden_state", Pooling.FIRST, normalize=True
    )
    assert by_tokens.find(EmbedOptions(pooling=Pooling.MEAN, normalize=False)) == Readout(
        "last_hidden_state", Pooling.MEAN
    )
    by_vectors = graph_readouts([tokens, vectors], Pooling.MEAN, normalized=False)
    assert by_vectors.find(EmbedOptions()) == Readout("sentence_embedding")
    assert by_vectors.find(EmbedOptions(normalize=True)) == Readout(
        "sentence_embedding", normalize=True
    )
    with pytest.raises(ValueError, match="without first pooling"):
        by_vectors.find(EmbedOptions(pooling=Pooling.FIRST))
    with pytest.raises(ValueError, match="no output"):
        graph_readouts([TensorSpec("ids", "INT64", ("n", 2))], None, normalized=True)


def test_an_engine_may_be_called_from_several_threads(opener: Opener) -> None:
    engine = Engine(opener, device=Device.CPU, threads=2, twofold=True)
    expected, _ = run(engine)
    wrong: list[float] = []

    def work() -> None:
        for _ in range(20):
            results, _ = run(engine, alone=False)
            difference = float(np.abs(results[0] - expected[0]).max())
            if difference > 1e-6:
                wrong.append(difference)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
