"""Where models run."""

import ctypes
import functools
import io
import logging
import threading
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Final

import onnxruntime as ort

from model_svc.running.plan import Provider
from model_svc.sessions.errors import ModelLoadError

CUDA_PROVIDER: Final = "CUDAExecutionProvider"
CPU_PROVIDER: Final = "CPUExecutionProvider"

_logger = logging.getLogger(__name__)

# Models are loaded in several threads; standard output, which is redirected, is all of theirs.
_loading: Final = threading.Lock()

_DRIVER: Final = "libcuda.so.1"
_CUDA_LIBRARY: Final = str(Path(ort.__file__).parent / "capi/libonnxruntime_providers_cuda.so")


class Device(StrEnum):
    """A kind of device; the values are what answers and metrics say."""

    CPU = "cpu"
    GPU = "gpu"


def has_cuda() -> bool:
    """Returns whether this build of ONNX Runtime can use CUDA."""
    return CUDA_PROVIDER in ort.get_available_providers()


def choose_device(wanted: Provider) -> Device:
    """Returns where a model is to run.

    Raises:
        ModelLoadError: CUDA is wanted, and this build of ONNX Runtime does not have it.
    """
    if wanted == "cuda" and not has_cuda():
        raise ModelLoadError(
            "CUDA is wanted, but this onnxruntime has only the CPU: install the packages of "
            "requirements-gpu.lock, which has onnxruntime-gpu in its place"
        )
    return Device.GPU if wanted != "cpu" and has_cuda() else Device.CPU


def load_cuda_libraries() -> None:
    """Loads NVIDIA's libraries from their Python packages, once.

    The system's loader does not look for them there. What is missing may still be installed
    elsewhere, or not be needed: it is logged, and ONNX Runtime decides.
    """
    with _loading:
        _load_once()


@functools.cache
def _load_once() -> None:
    if _why_not_loaded(_DRIVER):
        # They would take memory for nothing.
        return
    with redirect_stdout(io.StringIO()) as told:
        ort.preload_dlls()
    if told.getvalue():
        _logger.warning("NVIDIA's libraries: %s", " ".join(told.getvalue().split()))


def why_no_cuda() -> str:
    """Returns why ONNX Runtime passed CUDA over: what it writes to its log only."""
    if reason := _why_not_loaded(_DRIVER):
        return f"NVIDIA's driver is not there: {reason}"
    return _why_not_loaded(_CUDA_LIBRARY) or "its log says why"


def _why_not_loaded(library: str) -> str:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error)
    return ""
