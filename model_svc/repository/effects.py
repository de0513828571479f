"""What of `config.pbtxt` has no effect on a kind of model: refused, not left out in silence."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from model_svc.sessions.errors import ModelLoadError
from stepwire.api.inference import model_config_pb2 as pb


class Kind(StrEnum):
    """What a model does; the values complete a sentence about it."""

    TENSORS = "takes tensors"
    READS = "reads texts"
    WRITES = "writes texts"
    ENSEMBLE = "is an ensemble"


_RUN: Final = frozenset({"allow_interface_change", "weight", "intra_op_thread_count"})
_ROWS: Final = "cpu_max_batch_size"
_TENSORS: Final = _RUN | {_ROWS, "gpu_mem_limit", "arena_extend_strategy"}

# The parameters that have an effect; all but one of them on a model that reads texts.
_PARAMETERS: Final[Mapping[Kind, frozenset[str]]] = MappingProxyType(
    {
        Kind.TENSORS: _TENSORS,
        Kind.WRITES: _RUN,
        Kind.ENSEMBLE: frozenset({"allow_interface_change"}),
    }
)


def check_effects(config: pb.ModelConfig, kind: Kind) -> None:
    """Refuses fields that have no effect on such a model.

    Raises:
        ModelLoadError: There are some; names them.
    """
    idle = [*_idle_fields(config, kind), *_idle_parameters(config, kind)]
    if idle:
        raise ModelLoadError(
            f"model {config.name}: config.pbtxt: {', '.join(idle)}: without effect on a model that "
            f"{kind}; leave it out"
        )


def unheeded(config: pb.ModelConfig) -> list[str]:
    """Returns the fields that no model heeds, which are taken since nothing depends on them."""
    batching = config.dynamic_batching
    fields = {
        "dynamic_batching.preferred_batch_size": bool(batching.preferred_batch_size),
        "dynamic_batching.preserve_ordering": batching.preserve_ordering,
    }
    return [name for name, given in fields.items() if given]


def _idle_fields(config: pb.ModelConfig, kind: Kind) -> Iterator[str]:
    delay = config.dynamic_batching.max_queue_delay_microseconds
    writes, ensemble = kind is Kind.WRITES, kind is Kind.ENSEMBLE
    if writes and config.max_batch_size:
        yield "max_batch_size"
    if delay and (writes or (kind is Kind.TENSORS and not config.max_batch_size)):
        yield "dynamic_batching.max_queue_delay_microseconds without max_batch_size"
    if config.response_cache.enable and (writes or ensemble):
        yield "response_cache"
    if ensemble and config.instance_group:
        yield "instance_group"
    if writes and any(group.count > 1 for group in config.instance_group):
        yield "instance_group.count above 1"


def _idle_parameters(config: pb.ModelConfig, kind: Kind) -> Iterator[str]:
    known = _PARAMETERS.get(kind)
    for name in sorted(config.parameters):
        if name == _ROWS if known is None else name not in known:
            yield f"parameter {name}"
        elif name == _ROWS and not config.HasField("dynamic_batching"):
            yield f"parameter {name} without dynamic_batching"
