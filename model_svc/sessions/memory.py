"""How much of a GPU's memory a model may have."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from model_svc.running.plan import Growth
from model_svc.sessions.errors import DeviceError, DeviceFullError

# What ONNX Runtime's messages have in them when memory is used up: that of its arena,
# whether by the GPU's size or by the limit, and what CUDA says.
_FULL: Final = ("BFCArena", "out of memory", "ALLOC_FAILED")

# Where a failed call of CUDA or its libraries, and then the arena, say what happened,
# among places in ONNX Runtime's source and the host's name.
_CALL: Final = re.compile(r"(\w+ failure -?\d+: .*?) ; GPU=.* ; expr=(.*?);? *$", re.MULTILINE)
_ARENA: Final = re.compile(r"BFCArena::\w+\(.*?\) (.*)")

_STRATEGIES: Final[Mapping[Growth, str]] = MappingProxyType(
    {"doubled": "kNextPowerOfTwo", "requested": "kSameAsRequested"}
)


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """What one session may have of a GPU's memory.

    Attributes:
        limit_bytes: For its weights and its runs; 0 for no limit. CUDA's own libraries and
            the buffers of bound inputs take more, which ONNX Runtime does not count.
        growth: What it takes at a time.
    """

    limit_bytes: int = 0
    growth: Growth = "doubled"

    def provider_options(self) -> dict[str, str]:
        """Returns the options of ONNX Runtime's CUDA provider."""
        options = {"arena_extend_strategy": _STRATEGIES[self.growth]}
        if self.limit_bytes:
            options["gpu_mem_limit"] = str(self.limit_bytes)
        return options

    def device_error(self, error: Exception) -> DeviceError:
        """Returns a device's error, in short; says of one that is full what it may have."""
        text = str(error).strip()
        short = _in_short(text)
        if not any(word in text for word in _FULL):
            return DeviceError(short)
        limit = f", of which it may have {self.limit_bytes} bytes" if self.limit_bytes else ""
        return DeviceFullError(f"the GPU's memory is used up{limit}: {short}")


def _in_short(text: str) -> str:
    if call := _CALL.search(text):
        return f"{call[1]} ({call[2]})"
    arena = _ARENA.search(text)
    return arena[1] if arena else text


NO_LIMIT: Final = GpuMemory()
