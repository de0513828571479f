"""UUIDv7: ids that sort by the time of their making (RFC 9562, section 5.7)."""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """Make a UUIDv7: 48 bits of Unix milliseconds, 12 of sub-millisecond time, 62 random.

    The 12 bits after the version carry the fraction of the millisecond (RFC 9562,
    section 6.2, method 3), so that ids made by one process within a millisecond keep
    their order.
    """
    now_ns = time.time_ns()
    milliseconds, rest_ns = divmod(now_ns, 1_000_000)
    fraction = rest_ns * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62 | random)
