"""The parameters of `config.pbtxt`: what Triton's configuration has no field for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from model_svc.running.plan import Growth
from model_svc.sessions.errors import ModelLoadError
from stepwire.api.inference import model_config_pb2 as pb

_POOLINGS: Final = ("mean", "cls", "none")
_MAX_WEIGHT: Final = 1_000.0
_MAX_THREADS: Final = 256
_MAX_ROWS: Final = 1 << 20
_MAX_BYTES: Final = 1 << 50
_MAX_TOKENS: Final = 1 << 20
_MAX_DIMENSION: Final = 1 << 20
# As Triton writes them.
_GROWTHS: Final[Mapping[str, Growth]] = MappingProxyType({"0": "doubled", "1": "requested"})
_TRUTH: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What they say; each is the name of its parameter.

    Attributes:
        allow_interface_change: Whether a version may come back with other inputs or outputs
            when it is reloaded.
        weight: The model's share of the device beside other models.
        intra_op_thread_count: Threads that share a run on a CPU; 0 for as many as suit.
        cpu_max_batch_size: Rows that run together on a CPU, for a model whose `max_batch_size`
            is meant for a GPU; 0 for the same.
        gpu_mem_limit: Bytes of a GPU's memory that it may have; 0 for what the settings say.
        arena_extend_strategy: What it takes of them at a time; None for what the settings say.
        pooling: How a text's vector is made of its tokens': `mean`, `cls`, or `none` if the
            graph does it; None for what the model's own files say.
        normalize: Whether vectors have length 1; None for what the model's files say.
        max_tokens: Longest text, in tokens; 0 for what the model's files say.
        query_prefix: Put before a text that asks; None for what the model's files say.
        document_prefix: Put before a text that is found; likewise.
        matryoshka_dimensions: Lengths to which the model was trained to have its vectors
            shortened; none for what the model's files say.
    """

    allow_interface_change: bool = False
    weight: float = 1.0
    intra_op_thread_count: int = 0
    cpu_max_batch_size: int = 0
    gpu_mem_limit: int = 0
    arena_extend_strategy: Growth | None = None
    pooling: str | None = None
    normalize: bool | None = None
    max_tokens: int = 0
    query_prefix: str | None = None
    document_prefix: str | None = None
    matryoshka_dimensions: tuple[int, ...] = ()


def parse_parameters(config: pb.ModelConfig) -> Parameters:
    """Returns the parameters of a configuration.

    Raises:
        ModelLoadError: One is not known, or its value is not possible.
    """
    readers: Mapping[str, Callable[[str], Any]] = {
        "allow_interface_change": _truth,
        "weight": _weight,
        "intra_op_thread_count": lambda text: _count(text, _MAX_THREADS),
        "cpu_max_batch_size": lambda text: _count(text, _MAX_ROWS),
        "gpu_mem_limit": lambda text: _count(text, _MAX_BYTES),
        "arena_extend_strategy": _growth,
        "pooling": _pooling,
        "normalize": _truth,
        "max_tokens": lambda text: _count(text, _MAX_TOKENS),
        "query_prefix": str,
        "document_prefix": str,
        "matryoshka_dimensions": _lengths,
    }
    values: dict[str, Any] = {}
    for name, parameter in sorted(config.parameters.items()):
        if name not in readers:
            raise ModelLoadError(
                f"model {config.name}: parameter {name} is not known, only {', '.join(readers)}"
            )
        try:
            values[name] = readers[name](parameter.string_value)
        except ValueError as error:
            raise ModelLoadError(
                f"model {config.name}: parameter {name} is {parameter.string_value!r}, "
                f"must be {error}"
            ) from error
    return Parameters(**values)


def _truth(text: str) -> bool:
    if text not in _TRUTH:
        raise ValueError("true or false")
    return _TRUTH[text]


def _growth(text: str) -> Growth:
    if text not in _GROWTHS:
        raise ValueError(" or ".join(_GROWTHS))
    return _GROWTHS[text]


def _pooling(text: str) -> str:
    if text not in _POOLINGS:
        raise ValueError(" or ".join(_POOLINGS))
    return text


def _weight(text: str) -> float:
    fault = ValueError(f"a number above 0, at most {_MAX_WEIGHT:g}")
    try:
        weight = float(text)
    except ValueError:
        raise fault from None
    if not 0 < weight <= _MAX_WEIGHT:
        raise fault
    return weight


def _lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(_count(part.strip(), _MAX_DIMENSION) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"numbers with commas between them, each {error}") from error


def _count(text: str, limit: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= limit:
        raise ValueError(f"a whole number from 1 to {limit}")
    return int(text)
