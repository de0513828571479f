"""The tensors of `config.pbtxt` beside those of the model itself."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from model_svc.sessions.errors import ModelLoadError
from model_svc.tensors import BYTES, DTYPES, TensorSpec
from stepwire.api.inference import model_config_pb2 as pb

# The configuration's name of each datatype.
CONFIG_TYPES: Final[Mapping[str, "pb.DataType.ValueType"]] = MappingProxyType(
    {
        **{datatype: pb.DataType.Value(f"TYPE_{datatype}") for datatype in DTYPES},
        BYTES: pb.TYPE_STRING,
    }
)

_Configured = Sequence[pb.ModelInput] | Sequence[pb.ModelOutput]


def narrowed(
    config: pb.ModelConfig, kind: str, configured: _Configured, specs: Sequence[TensorSpec]
) -> Sequence[TensorSpec]:
    """Returns a model's tensors with the sizes that the configuration gives them.

    Args:
        config: Of the model; its `max_batch_size` says whether sizes leave out the first.
        kind: "input" or "output".
        configured: Its tensors of that kind; none means those of the model.
        specs: Those of the model.

    Raises:
        ModelLoadError: They do not fit.
    """
    if config.max_batch_size:
        for spec in specs:
            if not spec.shape or isinstance(spec.shape[0], int):
                raise _fault(
                    config,
                    f"max_batch_size is set, but the first size of {kind} {spec.name} is fixed",
                )
    if not configured:
        return specs
    names, known = [tensor.name for tensor in configured], {spec.name: spec for spec in specs}
    if len(set(names)) < len(names):
        raise _fault(config, f"an {kind} is named twice")
    if unknown := [name for name in names if name not in known]:
        raise _fault(config, f"the model has no {kind} {', '.join(unknown)}, only {list(known)}")
    if kind == "input" and (missing := [name for name in known if name not in names]):
        raise _fault(config, f"{kind} {', '.join(missing)} is missing")
    return [_narrowed(config, kind, tensor, known[tensor.name]) for tensor in configured]


def configured_specs(config: pb.ModelConfig, configured: _Configured) -> list[TensorSpec]:
    """Returns the tensors of a configuration for which there is no graph to compare.

    Raises:
        ModelLoadError: One has no datatype, or a size that is not possible.
    """
    datatypes = {number: datatype for datatype, number in CONFIG_TYPES.items()}
    batch = ("batch",) if config.max_batch_size else ()
    specs = []
    for tensor in configured:
        if tensor.data_type not in datatypes or min(tensor.dims, default=0) < -1:
            raise _fault(config, f"tensor {tensor.name} must have a data_type, and dims from -1 on")
        sizes = ("" if size == -1 else size for size in tensor.dims)
        specs.append(TensorSpec(tensor.name, datatypes[tensor.data_type], (*batch, *sizes)))
    return specs


def interface_changed(old: Sequence[TensorSpec], new: Sequence[TensorSpec]) -> bool:
    """Tells whether callers of a model would notice, names of sizes aside."""

    def seen(specs: Sequence[TensorSpec]) -> set[tuple[str, str, tuple[int, ...]]]:
        return {(spec.name, spec.datatype, tuple(spec.wire_shape)) for spec in specs}

    return seen(old) != seen(new)


def _narrowed(
    config: pb.ModelConfig, kind: str, tensor: pb.ModelInput | pb.ModelOutput, spec: TensorSpec
) -> TensorSpec:
    if tensor.data_type != CONFIG_TYPES[spec.datatype]:
        given = pb.DataType.Name(tensor.data_type)
        raise _fault(config, f"{kind} {spec.name} is {spec.datatype} in the model, not {given}")
    batch = spec.shape[:1] if config.max_batch_size else ()
    sizes = spec.shape[len(batch) :]
    fits = len(sizes) == len(tensor.dims) and all(
        wanted in {-1, size} or (isinstance(size, str) and wanted > 0)
        for wanted, size in zip(tensor.dims, sizes, strict=True)
    )
    if not fits:
        raise _fault(
            config,
            f"{kind} {spec.name} has dims {list(tensor.dims)}, the model's shape is "
            f"{spec.wire_shape}",
        )
    return TensorSpec(
        spec.name,
        spec.datatype,
        (
            *batch,
            *(
                size if wanted == -1 else wanted
                for wanted, size in zip(tensor.dims, sizes, strict=True)
            ),
        ),
    )


def _fault(config: pb.ModelConfig, text: str) -> ModelLoadError:
    return ModelLoadError(f"model {config.name}: config.pbtxt: {text}")
