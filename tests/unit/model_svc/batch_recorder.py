"""What batchers are given in tests: an observer that remembers, and a device that stays."""

from collections.abc import Callable

from model_svc.running.budgets import Budget
from model_svc.running.place import Place
from model_svc.running.slots import ComputePool


def staying(budget: Budget, slots: int = 1) -> Callable[[], Place]:
    place = Place("cpu", ComputePool(slots), budget)
    return lambda: place


class BatchRecorder:
    """Remembers what a batcher tells about batches.

    Attributes:
        batches: Of each, its items, their size, and that with padding.
        seconds: Of each, how long it waited, and ran.
        places: Of each, how much fills it, and its device.
        failed: How many failed.
    """

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []
        self.seconds: list[tuple[float, float]] = []
        self.places: list[tuple[int, str]] = []
        self.failed = 0

    def batch_ran(
        self,
        *,
        items: int,
        size: int,
        padded_size: int,
        full: int,
        wait_seconds: float,
        seconds: float,
        device: str,
        failed: bool,
    ) -> None:
        self.batches.append((items, size, padded_size))
        self.seconds.append((wait_seconds, seconds))
        self.places.append((full, device))
        self.failed += failed
