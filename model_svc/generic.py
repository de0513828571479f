"""Any ONNX model, served tensor by tensor."""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from model_svc.faults import input_invalid, tensor_invalid
from model_svc.metrics import ModelMetrics
from model_svc.ports import InferCall, Inferred, Ran
from model_svc.running.answers import Answers
from model_svc.running.batcher import Batcher
from model_svc.running.budgets import RowBudget
from model_svc.running.execute import Executed
from model_svc.running.statistics import Statistics, Timings
from model_svc.sessions.devices import Device
from model_svc.sessions.engine import Engine, Run
from model_svc.sessions.errors import DeviceError, InputRefusedError
from model_svc.sessions.runner import Runner
from model_svc.sessions.session import PLATFORM
from model_svc.tensors import BYTES, Tensor, TensorSpec

_STRING_BYTES: Final = 64  # what a string takes beside its characters


class Request(NamedTuple):
    """One call in a batch.

    Attributes:
        inputs: As ONNX Runtime wants them.
        outputs: Names of the outputs.
        rows: Size of the first dimension; 0 if that is none of a batch.
    """

    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    rows: int


class TensorExecute:
    """An `Execute` over an engine: a `Request` gives its outputs.

    Requests that run together are put one under the other, and their outputs cut apart.
    """

    def __init__(self, engine: Engine, runner: Runner, on_cpu: RowBudget) -> None:
        """Runs batches.

        Args:
            engine: The model.
            runner: The threads that call it.
            on_cpu: What runs together on a CPU.
        """
        self._engine = engine
        self._runner = runner
        self._on_cpu = on_cpu

    async def __call__(self, payloads: Sequence[Request], *, alone: bool) -> Executed:
        """See `Execute`."""
        return await self._runner.run(self._run, payloads, alone)

    def _run(self, requests: Sequence[Request], alone: bool) -> Executed:  # noqa: FBT001
        if len(requests) == 1:
            (only,) = requests
            results, device = self._engine.run(only.inputs, only.outputs, alone=alone)
            return Executed([results], device)
        if self._engine.device is Device.GPU:
            with suppress(DeviceError):
                return Executed(_joined(requests, self._engine.run_on_device), Device.GPU)
        run = partial(self._engine.run_on_cpu, alone=alone)
        # One part, unless the batch was made for a GPU that failed.
        parts = self._on_cpu.parts([max(1, request.rows) for request in requests])
        return Executed(
            [outputs for part in parts for outputs in _joined(requests[part], run)], Device.CPU
        )


class GenericModel:
    """A `Model` that hands its inputs to ONNX Runtime."""

    def __init__(
        self,
        name: str,
        *,
        engine: Engine,
        batcher: Batcher,
        metrics: ModelMetrics,
        runner: Runner,
        max_batch_rows: int,
        answers: Answers[Inferred] | None,
    ) -> None:
        """Serves a model.

        Args:
            name: The model's name.
            engine: The model.
            batcher: Runs it.
            metrics: Measures it.
            runner: The threads that call it; closed with the model.
            max_batch_rows: Largest first dimension of a batch; 0 if calls run one by one.
            answers: Those that are kept; None if none are.
        """
        self._name = name
        self._engine = engine
        self._batcher = batcher
        self._metrics = metrics
        self._runner = runner
        self.max_batch_rows = max_batch_rows
        self._answers = answers

    @property
    def platform(self) -> str:
        """See `Model`."""
        return PLATFORM

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """See `Model`."""
        return self._engine.inputs

    @property
    def input_sets(self) -> Sequence[frozenset[str]]:
        """All inputs, always."""
        return [frozenset(spec.name for spec in self._engine.inputs)]

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """See `Model`."""
        return self._engine.outputs

    @property
    def device(self) -> str:
        """See `Model`."""
        return self._engine.device

    @property
    def fallback(self) -> str:
        """See `Model`."""
        return self._engine.fallback

    @property
    def statistics(self) -> Statistics:
        """See `Model`."""
        return self._metrics.statistics

    async def infer(self, call: InferCall) -> Inferred:
        """See `Model`. The elements of BYTES tensors must be UTF-8, as ONNX wants its strings."""
        with self.statistics.counting_failure():
            if self._answers is None:
                return await self._infer(call)
            answer, cached = await self._answers.answer(digest_of(call), lambda: self._infer(call))
            return (
                Inferred(answer.tensors, Ran(device=self.device, cached=True)) if cached else answer
            )

    def interrupt(self) -> None:
        """See `Model`."""
        self._engine.interrupt()

    async def close(self) -> None:
        """See `Model`."""
        await self._batcher.close()
        self._runner.close()
        self._engine.close()

    async def _infer(self, call: InferCall) -> Inferred:
        given = {
            spec.name: self._decoded(spec.name, call.inputs[spec.name])
            if spec.datatype == BYTES
            else call.inputs[spec.name]
            for spec in self.inputs
            if spec.name in call.inputs
        }
        request = Request(given, tuple(call.outputs), self._rows(given))
        try:
            outcome = await self._batcher.run(
                [(request, max(1, request.rows), _group_of(request))],
                priority=call.priority,
                timeout_seconds=call.timeout_seconds,
            )
        except InputRefusedError as error:
            raise input_invalid(self._name, str(error)) from error
        (results,) = outcome.results
        tensors = [_encoded(tensor) if tensor.dtype == object else tensor for tensor in results]
        timings = Timings(queue=outcome.queue_seconds, compute=outcome.compute_seconds)
        self.statistics.call_answered(timings)
        return Inferred(tensors, Ran(timings, outcome.batch_items, outcome.device))

    def _rows(self, inputs: Mapping[str, Tensor]) -> int:
        """The first dimension that all inputs share; 0 if it is none of a batch."""
        if not self.max_batch_rows:
            return 0
        sizes = {tensor.shape[0] if tensor.shape else 0 for tensor in inputs.values()}
        return sizes.pop() if len(sizes) == 1 else 0

    def _decoded(self, name: str, tensor: Tensor) -> Tensor:
        try:
            return _each(bytes.decode, tensor)
        except UnicodeDecodeError as error:
            raise tensor_invalid(self._name, name, f"must be UTF-8: {error}") from error


def _joined(requests: Sequence[Request], run: Run) -> Sequence[Sequence[Tensor]]:
    """Runs requests as one; returns the outputs of each."""
    first = requests[0]
    if len(requests) == 1:
        return [run(first.inputs, first.outputs)]
    inputs = {
        name: np.concatenate([request.inputs[name] for request in requests])
        for name in first.inputs
    }
    results = run(inputs, first.outputs)
    rows = [request.rows for request in requests]
    for name, result in zip(first.outputs, results, strict=True):
        if not result.shape or len(result) != sum(rows):
            raise InputRefusedError(
                f"output {name} has shape {list(result.shape)} for {sum(rows)} rows: the "
                "model's first dimension is none of a batch"
            )
    ends = np.cumsum(rows)[:-1]
    parts = [np.split(result, ends) for result in results]
    return list(zip(*parts, strict=True))


def digest_of(call: InferCall) -> bytes:
    """Returns what is the same for calls that have the same answer."""
    digest = hashlib.blake2b(repr(list(call.outputs)).encode(), digest_size=32)
    for name, tensor in sorted(call.inputs.items()):
        digest.update(repr((name, tensor.dtype.str, tensor.shape)).encode())
        if tensor.dtype == object:
            for element in tensor.ravel():
                digest.update(len(element).to_bytes(8, "little"))
                digest.update(element)
        else:
            digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.digest()


def size_of(inferred: Inferred) -> int:
    """Returns the bytes that an answer takes."""
    return sum(
        sum(len(element) + _STRING_BYTES for element in tensor.ravel())
        if tensor.dtype == object
        else tensor.nbytes
        for tensor in inferred.tensors
    )


def _group_of(request: Request) -> Hashable:
    """What must agree for two requests to run together."""
    if not request.rows:
        return id(request)
    shapes = tuple((name, tensor.shape[1:]) for name, tensor in sorted(request.inputs.items()))
    return shapes, request.outputs


def _encoded(tensor: Tensor) -> Tensor:
    return _each(str.encode, tensor)


def _each(function: Callable[[Any], Any], tensor: Tensor) -> Tensor:
    changed = np.empty(tensor.size, dtype=object)
    changed[:] = [function(element) for element in tensor.ravel()]
    return changed.reshape(tensor.shape)
