"""Where models run."""

from enum import StrEnum
from typing import Final

import onnxruntime as ort

from model_svc.running.plan import Provider
from model_svc.sessions.errors import ModelLoadError

CUDA_PROVIDER: Final = "CUDAExecutionProvider"
CPU_PROVIDER: Final = "CPUExecutionProvider"


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
            "CUDA is wanted, but this onnxruntime has only the CPU: install onnxruntime-gpu "
            "in its place"
        )
    return Device.GPU if wanted != "cpu" and has_cuda() else Device.CPU
