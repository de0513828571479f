"""The CEL library without its command line.

The package loads that with itself, and with it two toolkits for terminals: a third of the time
in which a worker starts.
"""

import sys
from types import ModuleType

_COMMAND_LINE = "cel.cli"

_is_loaded = _COMMAND_LINE in sys.modules
sys.modules.setdefault(_COMMAND_LINE, ModuleType(_COMMAND_LINE))

import cel  # noqa: E402 - what stands above is for it

if not _is_loaded:
    # Whoever wants the command line can have it.
    del sys.modules[_COMMAND_LINE]

__all__ = ["cel"]
