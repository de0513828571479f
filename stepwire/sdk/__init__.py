"""What Python programs use: step functions, graphs of steps, and a client."""

from stepwire.sdk.client import Client, NewTask
from stepwire.sdk.functions import PermanentError, StepContext, step
from stepwire.sdk.values import from_payload, to_payload

__all__ = [
    "Client",
    "NewTask",
    "PermanentError",
    "StepContext",
    "from_payload",
    "step",
    "to_payload",
]
