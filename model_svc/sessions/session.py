"""One model in ONNX Runtime."""

import ctypes
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from model_svc.sessions.devices import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    Device,
    load_cuda_libraries,
    why_no_cuda,
)
from model_svc.sessions.errors import (
    DeviceError,
    DeviceFullError,
    InputRefusedError,
    ModelLoadError,
)
from model_svc.sessions.graphs import GATE, keep_sessions
from model_svc.sessions.memory import NO_LIMIT, GpuMemory
from model_svc.tensors import BF16, BYTES, Tensor, TensorSpec

PLATFORM: Final = "onnxruntime_onnx"

_SPIN_MICROSECONDS: Final = "10"

# ONNX Runtime's log severities. A failing run is told by its exception, not by its log.
_WARNING: Final = 2
_FATAL: Final = 4

_DATATYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tensor(bool)": "BOOL",
        "tensor(uint8)": "UINT8",
        "tensor(uint16)": "UINT16",
        "tensor(uint32)": "UINT32",
        "tensor(uint64)": "UINT64",
        "tensor(int8)": "INT8",
        "tensor(int16)": "INT16",
        "tensor(int32)": "INT32",
        "tensor(int64)": "INT64",
        "tensor(float16)": "FP16",
        "tensor(bfloat16)": BF16,
        "tensor(float)": "FP32",
        "tensor(double)": "FP64",
        "tensor(string)": BYTES,
    }
)

# Its number among ONNX's types; the package onnx itself is large and not needed here.
_ONNX_BFLOAT16: Final = 16

_REFUSALS: Final = (ort_errors.InvalidArgument, ort_errors.Fail, ort_errors.RuntimeException)

# What ONNX Runtime's messages have in them when the device failed, not the model: the
# library whose call did, cuDNN where it is missing, or the allocator, which does not say
# whose memory is used up. Messages also have the names of nodes in them, which may be any.
_DEVICE_FAULT: Final = re.compile(
    r"\b(CUDA|CUBLAS|CUBLASLT|CUDNN|CUDNN_FE|CUFFT|CURAND|CUSPARSE|NCCL) failure -?\d+:"
    r"|cuDNN is unavailable|\bcuda(Error|\w+\(\) failed)|BFCArena::|GPU=-?\d+ ; hostname="
)

_REFUSED_GRAPHS: Final = "cannot use the graph capture feature"


class Session:
    """One model, loaded on one device. Thread-safe.

    Attributes:
        device: Where it runs.
        inputs: What it takes.
        outputs: What it gives.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: Device,
        threads: int,
        memory: GpuMemory = NO_LIMIT,
        cuda_options: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Loads a model.

        Args:
            path: The ONNX file.
            device: Where it is to run.
            threads: Threads that share the work of one run on a CPU.
            memory: What it may have of a GPU's.
            cuda_options: Further options of the CUDA provider.

        Raises:
            DeviceError: The device cannot be used.
            ModelLoadError: The file is not a model that can be served.
        """
        providers: list[Any] = [CPU_PROVIDER]
        if device is Device.GPU:
            options = {**memory.provider_options(), **cuda_options}
            providers.insert(0, (CUDA_PROVIDER, options))
            load_cuda_libraries()
        self._memory = memory
        self._runs: set[Any] = set()
        self._interrupted = False
        self._gate = GATE.use if device is Device.GPU else nullcontext
        try:
            with self._gate():
                self._session = ort.InferenceSession(
                    path, _options(threads), providers=providers, enable_fallback=0
                )
        except Exception as error:
            # ONNX Runtime has a dozen unrelated exception classes for this
            if device is Device.GPU and (is_device_fault(error) or _REFUSED_GRAPHS in str(error)):
                raise memory.device_error(error) from error
            raise ModelLoadError(f"{path}: {error}") from error
        if device is Device.GPU and self._session.get_providers()[0] != CUDA_PROVIDER:
            raise DeviceError(f"ONNX Runtime cannot use CUDA: {why_no_cuda()}")
        self.device = device
        self.inputs = tuple(_spec(path, node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(path, node) for node in self._session.get_outputs())
        self._bfloat16 = {
            spec.name for spec in (*self.inputs, *self.outputs) if spec.datatype == BF16
        }

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Runs the model in the calling thread, without holding the interpreter's lock.

        Raises:
            InputRefusedError: The inputs do not fit the model.
            DeviceError: The device failed.
        """
        try:
            with self._gate():
                return self._run_now(inputs, outputs)
        except Exception as error:
            raise self.judged(error) from error

    def _run_now(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        if self._bfloat16:
            return self._run_values(inputs, outputs)
        with self._stoppable(run_options()) as options:
            return list(self._session.run(list(outputs), dict(inputs), options))

    def interrupt(self) -> None:
        """Has the runs under way end after the operator that they are at, and all later ones."""
        self._interrupted = True
        for options in list(self._runs):
            options.terminate = True

    @contextmanager
    def _stoppable(self, options: Any) -> Iterator[Any]:
        self._runs.add(options)
        if self._interrupted:
            options.terminate = True
        try:
            yield options
        finally:
            self._runs.discard(options)

    def _run_values(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Runs with values of ONNX Runtime's own, since numpy has no bfloat16."""
        given = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(tensor, _ONNX_BFLOAT16)
            if name in self._bfloat16
            else ort.OrtValue.ortvalue_from_numpy(tensor)
            for name, tensor in inputs.items()
        }
        with self._stoppable(run_options()) as options:
            results = self._session.run_with_ort_values(list(outputs), given, options)
        return [
            _bits(result) if name in self._bfloat16 else result.numpy()
            for name, result in zip(outputs, results, strict=True)
        ]

    def judged(self, error: Exception) -> Exception:
        """Returns what an exception of a run means."""
        if self.device is Device.GPU and is_device_fault(error):
            meant = self._memory.device_error(error)
            if not isinstance(meant, DeviceFullError):
                keep_sessions()
            return meant
        # Besides InvalidArgument, what operators say of sizes or indices that do not go
        # together; bound runs say it with Python's own class.
        if isinstance(error, (*_REFUSALS, RuntimeError)):
            return InputRefusedError(str(error))
        return error


def is_device_fault(error: Exception) -> bool:
    """Returns whether the device is at fault, by the words of the message."""
    return bool(_DEVICE_FAULT.search(str(error)))


def _bits(value: Any) -> Tensor:
    """A copy of a bfloat16 tensor's bits."""
    shape = tuple(value.shape())
    flat = (ctypes.c_uint16 * math.prod(shape)).from_address(value.data_ptr())
    return np.frombuffer(flat, dtype="<u2").reshape(shape).copy()


def run_options() -> Any:
    """Returns options of a run that is silent."""
    options = ort.RunOptions()
    options.log_severity_level = _FATAL
    return options


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _WARNING
    # Threads that wait for their part of a run spin this long, and not between runs: a
    # short run is as quick as with endless spinning (2.1 ms for 16 tokens, against 2.8
    # without any), and on cores shared with others hardly dearer than without.
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _spec(path: Path, node: Any) -> TensorSpec:
    if node.type not in _DATATYPES:
        raise ModelLoadError(
            f"{path}: tensor {node.name} has type {node.type}, which is not served"
        )
    shape = tuple(size if isinstance(size, int) else str(size or "") for size in node.shape)
    return TensorSpec(node.name, _DATATYPES[node.type], shape)
