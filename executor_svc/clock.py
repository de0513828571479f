"""The clock by which a process tells how long something is ago."""

import time


def boot_seconds() -> float:
    """Return a monotonic time in seconds that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
