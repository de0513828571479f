"""What CUDA graphs ask of everything else in this process that uses the GPU.

While ONNX Runtime captures a graph, CUDA refuses allocations and waits of any thread (error
900): it captures in CUDA's global mode. And once the device has failed, it ends the process
when it lets go of a session that has graphs.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakSet


class CaptureGate:
    """Lets either many uses of the GPU happen at a time, or one capture. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._uses = 0
        self._captures = 0
        self._capturing = False

    @contextmanager
    def use(self) -> Iterator[None]:
        """Waits until nothing is captured or waits for it. Not to be nested."""
        with self._changed:
            self._enter()
        try:
            yield
        finally:
            with self._changed:
                self._uses -= 1
                self._changed.notify_all()

    @contextmanager
    def capture(self, patience_seconds: float) -> Iterator[bool]:
        """Waits until nothing else uses the GPU; yields whether nothing does. Not to be nested.

        What takes longer than the patience, such as the loading of a model, is not waited
        for: then this is one more use.
        """
        with self._changed:
            self._captures += 1
            alone = self._changed.wait_for(
                lambda: not self._uses and not self._capturing, patience_seconds
            )
            if alone:
                self._capturing = True
            else:
                self._captures -= 1
                self._changed.notify_all()
                self._enter()
        try:
            yield alone
        finally:
            with self._changed:
                if alone:
                    self._captures -= 1
                    self._capturing = False
                else:
                    self._uses -= 1
                self._changed.notify_all()

    def _enter(self) -> None:
        self._changed.wait_for(lambda: not self._captures)
        self._uses += 1


# One for the process, as the GPU's state is.
GATE: Final = CaptureGate()

_with_graphs: Final[WeakSet[Any]] = WeakSet()


def note_graphs(session: Any) -> None:
    """Notes that a session of ONNX Runtime captures graphs."""
    _with_graphs.add(session)


def keep_sessions() -> None:
    """Keeps all sessions that have graphs for good, since the device has failed."""
    for session in list(_with_graphs):
        _with_graphs.discard(session)
        # Nor does the interpreter, as it ends, let go of what is counted once too often.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
