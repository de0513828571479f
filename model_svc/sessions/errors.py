"""What may go wrong with a model."""

from model_svc.running.execute import RefusedError


class ModelLoadError(Exception):
    """A model cannot be loaded; says which and why."""


class InputRefusedError(RefusedError):
    """ONNX Runtime refused the inputs of a run; says why."""


class DeviceError(Exception):
    """The device failed, not the model or its inputs; says how."""


class DeviceFullError(DeviceError):
    """The device's memory is used up, or what a model may have of it."""
