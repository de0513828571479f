"""Models in ONNX Runtime, and the threads on which they run."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from model_svc.tensors import BYTES, Tensor, TensorSpec

PLATFORM: Final = "onnxruntime_onnx"
Provider = Literal["auto", "cpu", "cuda"]
T = TypeVar("T")

_SPIN_MICROSECONDS: Final = "10"

_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
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
        "tensor(float)": "FP32",
        "tensor(double)": "FP64",
        "tensor(string)": BYTES,
    }
)


class ModelLoadError(Exception):
    """A model cannot be loaded; says which and why."""


class InputRefusedError(Exception):
    """ONNX Runtime refused the inputs of a run; says why."""


def choose_providers(wanted: Provider) -> list[str]:
    """Returns ONNX Runtime's providers in the order of preference.

    Raises:
        ModelLoadError: CUDA is wanted, and this build of ONNX Runtime does not have it.
    """
    has_cuda = _CUDA in ort.get_available_providers()
    if wanted == "cuda" and not has_cuda:
        raise ModelLoadError(
            "CUDA is wanted, but this onnxruntime has only the CPU: install onnxruntime-gpu "
            "in its place"
        )
    return [_CUDA, _CPU] if has_cuda and wanted != "cpu" else [_CPU]


class Session:
    """One model, loaded. Thread-safe."""

    def __init__(self, path: Path, *, providers: Sequence[str], threads: int) -> None:
        """Loads a model.

        Args:
            path: The ONNX file.
            providers: As `choose_providers` returns them.
            threads: Threads that share the work of one run.

        Raises:
            ModelLoadError: The file is not a model that can be served.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _WARNING
        # Threads that wait for their part of a run spin this long, and not between runs: a
        # short run is as quick as with endless spinning (2.1 ms for 16 tokens, against 2.8
        # without any), and on cores shared with others hardly dearer than without.
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = ort.InferenceSession(path, options, providers=list(providers))
        except Exception as error:
            # ONNX Runtime has a dozen unrelated exception classes for this
            raise ModelLoadError(f"{path}: {error}") from error
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _FATAL
        self.inputs = tuple(_spec(path, node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(path, node) for node in self._session.get_outputs())

    @property
    def provider(self) -> str:
        """The provider that runs it, such as `CPUExecutionProvider`."""
        return str(self._session.get_providers()[0])

    @property
    def on_cpu(self) -> bool:
        """Whether it runs on the CPU."""
        return self.provider == _CPU

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Runs the model in the calling thread, without holding the interpreter's lock.

        Raises:
            InputRefusedError: The inputs do not fit the model.
        """
        try:
            return list(self._session.run(list(outputs), dict(inputs), self._run_options))
        except (ort_errors.InvalidArgument, ort_errors.Fail) as error:
            # Fail is what an operator says of sizes that do not go together
            raise InputRefusedError(str(error)) from error


class Runner:
    """The threads that run models, away from the event loop."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="model")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Returns what `function` returns, called in a thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, function, *arguments
        )

    def close(self) -> None:
        """Waits for what runs; what has not begun is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _spec(path: Path, node: Any) -> TensorSpec:
    if node.type not in _DATATYPES:
        raise ModelLoadError(
            f"{path}: tensor {node.name} has type {node.type}, which is not served"
        )
    shape = tuple(size if isinstance(size, int) else str(size or "") for size in node.shape)
    return TensorSpec(node.name, _DATATYPES[node.type], shape)
