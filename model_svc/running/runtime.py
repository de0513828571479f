"""Loads models, and lets them share the devices of this process."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from opentelemetry.metrics import Meter

from model_svc import embedding, generic
from model_svc.embedding import EmbeddingModel
from model_svc.encoder import Encoder, Row, check_inputs
from model_svc.export.checkpoint import (
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    CheckpointError,
    read_config,
)
from model_svc.export.variants import Variant
from model_svc.generation.model import GenerationModel
from model_svc.generation.opening import open_generator
from model_svc.generic import GenericModel, TensorExecute
from model_svc.metrics import ModelMetrics
from model_svc.ports import Role
from model_svc.readouts import Readouts, exported_readouts, graph_readouts
from model_svc.running.answers import Answers
from model_svc.running.batcher import Batcher
from model_svc.running.budgets import Budget, RowBudget, TokenBudget
from model_svc.running.cache import ResponseCache
from model_svc.running.execute import Execute, RefusedError
from model_svc.running.openers import open_export, open_plain, open_text
from model_svc.running.place import Place
from model_svc.running.plan import RunPlan, TextPlan
from model_svc.running.slots import ComputePool
from model_svc.sessions.devices import Device, choose_device
from model_svc.sessions.engine import Engine, Open
from model_svc.sessions.errors import DeviceError, ModelLoadError
from model_svc.sessions.memory import GpuMemory
from model_svc.sessions.runner import Runner
from model_svc.sessions.same_file import same_file
from model_svc.settings import ModelSettings
from model_svc.tensors import are_batched
from model_svc.tokenize import TextTokenizer

# Rows of a batch where nobody says how many; what a CPU's caches hold of most models.
_BATCH_ROWS: Final = 32
_WAITING_CALLS: Final = 4_096

DEFAULT_PLAN: Final = RunPlan()

# As many as steps of tasks have.
ENCODER_PLAN: Final = RunPlan(priority_levels=9)


class Runtime:
    """The devices of this process, and the loading of models onto them.

    The load methods block. What they return is closed by its owner, and before the
    runtime.
    """

    def __init__(
        self, settings: ModelSettings, meter: Meter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Loads nothing yet.

        Args:
            settings: How models run.
            meter: Measures their batches.
            clock: The time in seconds, on the clock of deadlines.
        """
        self._settings = settings
        self._meter = meter
        self._clock = clock
        threads = settings.cpu_threads()
        self._pools = {
            Device.CPU: ComputePool(threads),
            Device.GPU: ComputePool(settings.gpu_slots),
        }
        self._tokenizers = Runner(threads, "tokenize")

    def load(
        self, name: str, version: str, path: Path, plan: RunPlan = DEFAULT_PLAN
    ) -> GenericModel:
        """Loads any ONNX model.

        Raises:
            ModelLoadError: It cannot be served.
        """
        opener = same_file(path, partial(open_plain, path, self._memory(plan)))
        engine = self._engine(name, plan, opener, size=_size_of(path))
        return self._generic(name, version, engine, plan)

    def load_text(
        self,
        name: str,
        version: str,
        path: Path,
        text: TextPlan,
        plan: RunPlan = DEFAULT_PLAN,
    ) -> EmbeddingModel:
        """Loads any encoder with a tokenizer.

        Raises:
            ModelLoadError: It cannot be served.
        """
        opener = same_file(path, partial(open_text, path, self._memory(plan)))
        engine = self._engine(name, plan, opener, size=_size_of(path))
        try:
            check_inputs(engine.inputs)
            readouts = graph_readouts(engine.outputs, text.pooling, normalized=text.normalize)
        except ValueError as error:
            raise ModelLoadError(f"model {name}: {error}") from error
        prefixes = {Role.QUERY: text.query_prefix, Role.DOCUMENT: text.document_prefix}
        return self._encoder(
            name,
            version,
            engine,
            plan,
            tokenizer=self._tokenizer(name, text.tokenizer, text.max_tokens),
            readouts=readouts,
            prefixes=prefixes,
            matryoshka_dimensions=text.matryoshka_dimensions,
            vocabulary=0,
            positions=text.max_tokens,
        )

    def load_encoder(
        self,
        name: str,
        version: str,
        checkpoint: Path,
        variant: Variant = Variant.FLOAT32,
        plan: RunPlan = ENCODER_PLAN,
    ) -> EmbeddingModel:
        """Loads a sentence encoder, exporting it to ONNX first if that was not done yet.

        On a GPU, float32 is replaced by float16 where the settings say so. int8 always runs
        on the CPU.

        Raises:
            ModelLoadError: It cannot be served.
        """
        if variant is Variant.INT8:
            # CUDA lacks its operators: each layer would go to the CPU and back.
            plan = replace(plan, provider="cpu")
        try:
            config = read_config(checkpoint)
            opener = partial(
                open_export,
                checkpoint,
                variant,
                settings=self._settings,
                memory=self._memory(plan),
            )
            engine = self._engine(name, plan, same_file(checkpoint / WEIGHTS_FILE, opener))
        except (CheckpointError, OSError) as error:
            raise ModelLoadError(f"model {name}: {error}") from error
        return self._encoder(
            name,
            version,
            engine,
            plan,
            tokenizer=self._tokenizer(name, checkpoint / TOKENIZER_FILE, config.max_tokens),
            readouts=exported_readouts(config.pooling, normalized=config.normalize),
            prefixes={},
            matryoshka_dimensions=config.matryoshka_dimensions,
            vocabulary=config.vocabulary,
            positions=config.positions,
        )

    def load_generator(
        self, name: str, version: str, folder: Path, plan: RunPlan = DEFAULT_PLAN
    ) -> GenerationModel:
        """Loads a model that writes texts, in a process of its own.

        Raises:
            ModelLoadError: It cannot be served.
        """
        return open_generator(
            name,
            version,
            folder,
            plan,
            settings=self._settings,
            pools=self._pools,
            meter=self._meter,
            clock=self._clock,
        )

    def close(self) -> None:
        """Ends the threads that tokenize."""
        self._tokenizers.close()

    def _generic(self, name: str, version: str, engine: Engine, plan: RunPlan) -> GenericModel:
        rows = plan.max_batch_rows
        if rows is None:
            rows = _BATCH_ROWS if are_batched([*engine.inputs, *engine.outputs]) else 0
        on_cpu = RowBudget(plan.cpu_batch_rows or rows)
        metrics = ModelMetrics(self._meter, model=name, version=version, reads_text=False)
        runner = self._runner()
        return GenericModel(
            name,
            engine=engine,
            batcher=self._batcher(
                name,
                TensorExecute(engine, runner, on_cpu),
                {Device.CPU: on_cpu, Device.GPU: RowBudget(rows)},
                plan=plan,
                engine=engine,
                metrics=metrics,
                max_waiting=_WAITING_CALLS,
            ),
            metrics=metrics,
            runner=runner,
            max_batch_rows=rows,
            answers=_answers(plan, generic.size_of, metrics),
        )

    def _encoder(
        self,
        name: str,
        version: str,
        engine: Engine,
        plan: RunPlan,
        *,
        tokenizer: TextTokenizer,
        readouts: Readouts,
        **facts: Any,
    ) -> EmbeddingModel:
        settings = self._settings
        on_cpu = TokenBudget(settings.max_batch_tokens)
        metrics = ModelMetrics(self._meter, model=name, version=version, reads_text=True)
        runner = self._runner()
        execute = Encoder(engine, runner, on_cpu)
        # First, since it may fail: a batcher is known to its pool until it is closed.
        dimension = _dimension(name, execute, readouts)
        return EmbeddingModel(
            name,
            tokenizer=tokenizer,
            engine=engine,
            batcher=self._batcher(
                name,
                execute,
                {Device.CPU: on_cpu, Device.GPU: TokenBudget(settings.gpu_max_batch_tokens)},
                plan=plan,
                engine=engine,
                metrics=metrics,
                max_waiting=settings.max_waiting_tokens,
            ),
            metrics=metrics,
            readouts=readouts,
            dimension=dimension,
            tokenizer_threads=self._tokenizers,
            runner=runner,
            answers=_answers(plan, embedding.size_of, metrics),
            **facts,
        )

    def _engine(self, name: str, plan: RunPlan, open_: Open, *, size: int = 0) -> Engine:
        wanted = self._settings.provider if plan.provider == "auto" else plan.provider
        try:
            return Engine(
                open_,
                device=choose_device(wanted),
                threads=plan.threads or self._settings.cpu_threads(),
                twofold=not plan.threads and size <= self._settings.max_twofold_bytes,
                strict=wanted == "cuda",
            )
        except DeviceError as error:
            raise ModelLoadError(f"model {name}: {error}") from error

    def _memory(self, plan: RunPlan) -> GpuMemory:
        return GpuMemory(
            plan.gpu_memory_bytes or self._settings.gpu_memory_bytes,
            plan.gpu_memory_growth or self._settings.gpu_memory_growth,
        )

    def _batcher(
        self,
        name: str,
        execute: Execute,
        budgets: Mapping[Device, Budget],
        *,
        plan: RunPlan,
        engine: Engine,
        metrics: ModelMetrics,
        max_waiting: int,
    ) -> Batcher:
        places = {
            device: Place(device, self._pools[device], budget) for device, budget in budgets.items()
        }
        return Batcher(
            name,
            execute,
            place=lambda: places[engine.device],
            plan=plan,
            max_waiting=plan.max_waiting or max_waiting,
            clock=self._clock,
            observer=metrics,
        )

    def _runner(self) -> Runner:
        # A model that moves to the CPU has the slots of that.
        return Runner(max(pool.slots for pool in self._pools.values()))

    @staticmethod
    def _tokenizer(name: str, path: Path, max_tokens: int) -> TextTokenizer:
        if not path.is_file():
            raise ModelLoadError(f"model {name}: {path} is missing")
        try:
            return TextTokenizer(path, max_tokens)
        except ValueError as error:
            raise ModelLoadError(f"model {name}: {error}") from error


def _answers(plan: RunPlan, size_of: Callable[[Any], int], metrics: ModelMetrics) -> Any:
    if not plan.cache_bytes:
        return None
    return Answers(ResponseCache(plan.cache_bytes, size_of), metrics)


def _dimension(name: str, encoder: Encoder, readouts: Readouts) -> int:
    """The length of the vectors, from a first run."""
    row = Row(np.zeros(1, dtype=np.int64), readouts.own)
    try:
        return len(encoder.encode([row], alone=True).results[0])
    except RefusedError as error:
        raise ModelLoadError(f"model {name}: its first run failed: {error}") from error


def _size_of(path: Path) -> int:
    """The bytes of a model, with the files beside it that may hold its weights."""
    return sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
