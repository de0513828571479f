"""What Python programs use: step functions, graphs of steps, and a client."""

from stepwire.sdk.client import Client
from stepwire.sdk.functions import AddedSteps, PermanentError, StepContext, step
from stepwire.sdk.requests import NewTask
from stepwire.sdk.values import from_payload, to_payload

__all__ = [
    "AddedSteps",
    "Client",
    "NewTask",
    "PermanentError",
    "StepContext",
    "from_payload",
    "step",
    "to_payload",
]
