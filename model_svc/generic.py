"""Any ONNX model, served tensor by tensor and run call by call."""

from collections.abc import Mapping, Sequence

from model_svc.faults import input_invalid
from model_svc.sessions import PLATFORM, InputRefusedError, Runner, Session
from model_svc.tensors import Tensor, TensorSpec


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
        """See `Model`."""
        try:
            return await self._runner.run(self._session.run, inputs, outputs)
        except InputRefusedError as error:
            raise input_invalid(self._name, str(error)) from error
