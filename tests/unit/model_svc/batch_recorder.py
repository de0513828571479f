"""What batchers are given in tests: an observer that remembers, and a device that stays."""

from collections.abc import Callable

from model_svc.running.slots import ComputePool


def device(slots: int = 1) -> Callable[[], ComputePool]:
    pool = ComputePool(slots)
    return lambda: pool


class BatchRecorder:
    """Remembers what a batcher tells about batches.

    Attributes:
        batches: Of each, its items, their size, and that with padding.
        seconds: Of each, how long it waited, and ran.
        failed: How many failed.
    """

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []
        self.seconds: list[tuple[float, float]] = []
        self.failed = 0

    def batch_ran(
        self,
        *,
        items: int,
        size: int,
        padded_size: int,
        wait_seconds: float,
        seconds: float,
        failed: bool,
    ) -> None:
        self.batches.append((items, size, padded_size))
        self.seconds.append((wait_seconds, seconds))
        self.failed += failed
