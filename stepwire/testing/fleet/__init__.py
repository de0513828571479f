"""A simulated fleet of OpenAI-compatible model servers, on loopback, seeded and scripted.

It answers chat completions (streamed, too), embeddings and lists of models, as real
providers do on good days and on bad ones: slow, limited, out of credit, cut off, talking
nonsense. `python -m stepwire.testing.fleet PLAN.yaml` runs one.
"""

from stepwire.testing.fleet.endpoint import SimulatedEndpoint
from stepwire.testing.fleet.fleet import Fleet, running_fleet
from stepwire.testing.fleet.plan import (
    EndpointPlan,
    Fault,
    FaultKind,
    FleetPlan,
    ModelPlan,
    RandomFault,
    ToolCallPlan,
    Turn,
)

__all__ = [
    "EndpointPlan",
    "Fault",
    "FaultKind",
    "Fleet",
    "FleetPlan",
    "ModelPlan",
    "RandomFault",
    "SimulatedEndpoint",
    "ToolCallPlan",
    "Turn",
    "running_fleet",
]
