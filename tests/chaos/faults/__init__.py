"""What can be made to go wrong, and how one knows that it did."""

from tests.chaos.faults.fault import FIRE_SECONDS, Fault, NotFiredError
from tests.chaos.faults.processes import Armed, CutOff, Killed, Stopped, Terminated
from tests.chaos.faults.surroundings import (
    BackendsTerminated,
    ClockJumped,
    DiskFull,
    MessagesMeddledWith,
    PostgresRestarted,
    RabbitRestarted,
    StartedWithout,
)

__all__ = [
    "FIRE_SECONDS",
    "Armed",
    "BackendsTerminated",
    "ClockJumped",
    "CutOff",
    "DiskFull",
    "Fault",
    "Killed",
    "MessagesMeddledWith",
    "NotFiredError",
    "PostgresRestarted",
    "RabbitRestarted",
    "StartedWithout",
    "Stopped",
    "Terminated",
]
