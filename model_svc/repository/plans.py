"""From `config.pbtxt` to how a model runs, and back to the whole of its configuration."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from model_svc.ports import Model
from model_svc.repository.interface import CONFIG_TYPES
from model_svc.repository.parameters import Parameters
from model_svc.running.plan import Provider, RunPlan
from model_svc.tensors import TensorSpec
from stepwire.api.inference import model_config_pb2 as pb

_MICROSECONDS: Final = 1_000_000

_PROVIDERS: Final[Mapping[int, Provider]] = MappingProxyType(
    {
        pb.ModelInstanceGroup.KIND_AUTO: "auto",
        pb.ModelInstanceGroup.KIND_GPU: "cuda",
        pb.ModelInstanceGroup.KIND_CPU: "cpu",
    }
)


def run_plan(
    config: pb.ModelConfig, parameters: Parameters, *, configured: bool, cache_bytes: int
) -> RunPlan:
    """Returns how a model is to run.

    Args:
        config: Its configuration.
        parameters: The parameters of the same.
        configured: Whether somebody wrote it: otherwise requests are batched where the
            graph says that they may.
        cache_bytes: Size of the response cache of a model that has one.
    """
    batching = config.dynamic_batching
    policy = batching.default_queue_policy
    group = config.instance_group[0] if config.instance_group else pb.ModelInstanceGroup()
    rows = config.max_batch_size if config.HasField("dynamic_batching") else 0
    return RunPlan(
        max_batch_rows=rows if configured else None,
        cpu_batch_rows=min(parameters.cpu_max_batch_size, rows),
        max_delay_seconds=batching.max_queue_delay_microseconds / _MICROSECONDS,
        max_waiting=policy.max_queue_size,
        priority_levels=batching.priority_levels,
        default_priority=batching.default_priority_level,
        default_timeout_seconds=policy.default_timeout_microseconds / _MICROSECONDS,
        instances=group.count,
        weight=parameters.weight,
        provider=_PROVIDERS[group.kind],
        threads=parameters.intra_op_thread_count,
        gpu_memory_bytes=parameters.gpu_mem_limit,
        gpu_memory_growth=parameters.arena_extend_strategy,
        cache_bytes=cache_bytes if config.response_cache.enable else 0,
    )


def whole_config(
    config: pb.ModelConfig,
    model: Model,
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> pb.ModelConfig:
    """Returns the configuration with what it left out, as ModelConfig tells it."""
    whole = pb.ModelConfig()
    whole.CopyFrom(config)
    whole.platform = model.platform
    if not whole.HasField("ensemble_scheduling"):
        whole.backend = "onnxruntime"
    if not whole.max_batch_size and model.max_batch_rows:
        whole.max_batch_size = model.max_batch_rows
        whole.dynamic_batching.SetInParent()
    if not whole.version_policy.WhichOneof("policy_choice"):
        whole.version_policy.latest.num_versions = 1
    if not whole.instance_group:
        whole.instance_group.add()
    for group in whole.instance_group:
        group.name = group.name or whole.name
    batched = 1 if whole.max_batch_size else 0
    del whole.input[:], whole.output[:]
    for spec in inputs:
        whole.input.add(
            name=spec.name,
            data_type=CONFIG_TYPES[spec.datatype],
            dims=spec.wire_shape[batched:],
        )
    for spec in outputs:
        whole.output.add(
            name=spec.name,
            data_type=CONFIG_TYPES[spec.datatype],
            dims=spec.wire_shape[batched:],
        )
    return whole
