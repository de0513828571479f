"""Any ONNX model, served tensor by tensor and run call by call."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from model_svc.faults import input_invalid, tensor_invalid
from model_svc.sessions import PLATFORM, InputRefusedError, Runner, Session
from model_svc.tensors import BYTES, Tensor, TensorSpec


class GenericModel:
    """A `Model` that hands its inputs to ONNX Runtime as they are."""

    def __init__(self, name: str, session: Session, runner: Runner) -> None:
        self._name = name
        self._session = session
        self._runner = runner

    @property
    def platform(self) -> str:
        """See `Model`."""
        return PLATFORM

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """See `Model`."""
        return self._session.inputs

    @property
    def input_sets(self) -> Sequence[frozenset[str]]:
        """All inputs, always."""
        return [frozenset(spec.name for spec in self._session.inputs)]

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """See `Model`."""
        return self._session.outputs

    async def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """See `Model`. The elements of BYTES tensors must be UTF-8, as ONNX wants its strings."""
        given = {
            spec.name: self._decoded(spec.name, inputs[spec.name])
            if spec.datatype == BYTES
            else inputs[spec.name]
            for spec in self.inputs
        }
        try:
            results = await self._runner.run(self._session.run, given, outputs)
        except InputRefusedError as error:
            raise input_invalid(self._name, str(error)) from error
        return [_encoded(tensor) if tensor.dtype == object else tensor for tensor in results]

    def _decoded(self, name: str, tensor: Tensor) -> Tensor:
        try:
            return _each(bytes.decode, tensor)
        except UnicodeDecodeError as error:
            raise tensor_invalid(self._name, name, f"must be UTF-8: {error}") from error


def _encoded(tensor: Tensor) -> Tensor:
    return _each(str.encode, tensor)


def _each(function: Callable[[Any], Any], tensor: Tensor) -> Tensor:
    changed = np.empty(tensor.size, dtype=object)
    changed[:] = [function(element) for element in tensor.ravel()]
    return changed.reshape(tensor.shape)
