"""Ports for whole stacks that tests run beside others."""

import random

from stepwire.stack.ports import DEFAULTS, is_free

_OFFSETS = range(1000, 8000, 20)
_TRIES = 100


def free_port_offset(*, workers: int) -> int:
    """Returns an offset at which all ports of a stack are free.

    Args:
        workers: Number of the stack's workers; each has a port behind the first one's.

    Raises:
        RuntimeError: None of a hundred offsets has them free.
    """
    first = DEFAULTS["worker-metrics"].number
    ports = {default.number for default in DEFAULTS.values()} | set(range(first, first + workers))
    for offset in random.sample(_OFFSETS, _TRIES):
        if all(is_free(port + offset) for port in ports):
            return offset
    raise RuntimeError("no offset has all ports of a stack free")
