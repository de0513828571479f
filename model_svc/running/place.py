"""Where a model runs: the slots of a device, and the batches that suit it."""

from dataclasses import dataclass

from model_svc.running.budgets import Budget
from model_svc.running.slots import ComputePool


@dataclass(frozen=True, slots=True)
class Place:
    """A device, as one model has it.

    Attributes:
        device: Its kind, `cpu` or `gpu`.
        pool: The device's slots, which other models share.
        budget: What of the model runs together there.
    """

    device: str
    pool: ComputePool
    budget: Budget
