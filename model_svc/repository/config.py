"""`config.pbtxt`: how a model is to be served, read and checked for itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf import text_format

from model_svc.export.cached import MODEL_FILE
from model_svc.sessions.errors import ModelLoadError
from stepwire.api.inference import model_config_pb2 as pb

CONFIG_FILE: Final = "config.pbtxt"

MAX_INSTANCES: Final = 64
MAX_STEPS: Final = 32
MAX_PRIORITY_LEVELS: Final = 64
_PLATFORMS: Final = ("", "onnxruntime_onnx", "ensemble")
_BACKENDS: Final = ("", "onnxruntime")

# Whether something is wrong, and what.
_Check = tuple[bool, str]


def read_config(home: Path) -> pb.ModelConfig | None:
    """Returns the configuration in a model's folder; None if it has none.

    Raises:
        ModelLoadError: It cannot be read, has a field that is not known, or a value that
            is not possible.
    """
    path = home / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
    return parse_config(text, home.name)


def parse_config(text: str, model: str) -> pb.ModelConfig:
    """Returns the configuration of a model.

    Raises:
        ModelLoadError: It has a field that is not known, or a value that is not possible.
    """
    try:
        config = text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise ModelLoadError(f"model {model}: {CONFIG_FILE}: {error}") from error
    faults = (
        *_general(config, model),
        *_enumerations(config),
        *_scheduling(config),
        *_policy(config.version_policy),
    )
    fault = next((text for wrong, text in faults if wrong), "")
    if fault:
        raise ModelLoadError(f"model {model}: {CONFIG_FILE}: {fault}")
    config.name = model
    config.default_model_filename = config.default_model_filename or MODEL_FILE
    return config


def _general(config: pb.ModelConfig, model: str) -> Iterator[_Check]:
    file, counts = config.default_model_filename, [group.count for group in config.instance_group]
    yield (
        config.name not in {"", model},
        f"name is {config.name!r}, must be that of the folder, {model!r}",
    )
    yield (
        config.platform not in _PLATFORMS,
        f"platform is {config.platform!r}, must be 'onnxruntime_onnx' or 'ensemble'",
    )
    yield (
        config.backend not in _BACKENDS,
        f"backend is {config.backend!r}, must be 'onnxruntime'",
    )
    yield config.max_batch_size < 0, "max_batch_size must not be negative"
    yield (
        Path(file).name != file,
        "default_model_filename must be the name of a file in the version's folder",
    )
    yield len(counts) > 1, "there may be at most one instance_group"
    yield (
        any(not 0 <= count <= MAX_INSTANCES for count in counts),
        f"instance_group.count must be from 0 to {MAX_INSTANCES}",
    )


def _enumerations(config: pb.ModelConfig) -> Iterator[_Check]:
    """Numbers in the place of names, of which protobuf takes any."""
    kinds, types = pb.ModelInstanceGroup.Kind.values(), pb.DataType.values()
    actions = pb.ModelQueuePolicy.TimeoutAction.values()
    policy = config.dynamic_batching.default_queue_policy
    datatypes = [tensor.data_type for tensor in config.input]
    datatypes += [tensor.data_type for tensor in config.output]
    yield (
        any(group.kind not in kinds for group in config.instance_group),
        "instance_group.kind is not known",
    )
    yield (
        any(given not in types for given in datatypes),
        "the data_type of an input or output is not known",
    )
    yield policy.timeout_action not in actions, "timeout_action must be REJECT"


def _scheduling(config: pb.ModelConfig) -> Iterator[_Check]:
    batching, ensemble = config.dynamic_batching, config.HasField("ensemble_scheduling")
    queued = batching.priority_levels > 0 or batching.HasField("default_queue_policy")
    yield (
        ensemble != (config.platform == "ensemble"),
        "platform 'ensemble' and ensemble_scheduling go together",
    )
    yield (
        ensemble and not 1 <= len(config.ensemble_scheduling.step) <= MAX_STEPS,
        f"ensemble_scheduling must have from 1 to {MAX_STEPS} steps",
    )
    yield (
        config.HasField("dynamic_batching") and config.max_batch_size == 0 and not queued,
        "dynamic_batching needs a max_batch_size",
    )
    yield (
        batching.priority_levels > MAX_PRIORITY_LEVELS,
        f"priority_levels must be at most {MAX_PRIORITY_LEVELS}",
    )
    yield (
        batching.default_priority_level > batching.priority_levels,
        "default_priority_level must not be above priority_levels",
    )


def _policy(policy: pb.ModelVersionPolicy) -> Iterator[_Check]:
    versions = policy.specific.versions
    yield (
        policy.HasField("specific") and min(versions, default=0) < 1,
        "version_policy.specific must name versions, from 1 on",
    )
