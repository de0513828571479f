"""Errors about a model's inputs."""

from stepwire.errors import Reason, StepwireError


def tensor_invalid(model: str, tensor: str, description: str) -> StepwireError:
    """Returns a MODEL_INPUT_INVALID error that names one tensor."""
    return StepwireError(
        Reason.MODEL_INPUT_INVALID,
        f"model {model}: tensor {tensor}: {description}",
        metadata={"model": model, "tensor": tensor},
    )


def input_invalid(model: str, description: str) -> StepwireError:
    """Returns a MODEL_INPUT_INVALID error about a call as a whole."""
    return StepwireError(
        Reason.MODEL_INPUT_INVALID, f"model {model}: {description}", metadata={"model": model}
    )
