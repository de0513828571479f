"""Refuses calls over the server's limits, before they cost anything."""

from datetime import timedelta

from stepwire.errors import Reason, StepwireError
from stepwire.rpc.interceptors.chain import Call, CallFailed, Leave

_RETRY_AFTER = timedelta(milliseconds=500)


class Admission:
    """Lets at most so many calls in at a time.

    Streams, of either side, are counted by themselves: they are many, last long and
    mostly wait, and must not take the places of short calls. Health and reflection always
    pass: a full server is not a dead one.
    """

    def __init__(self, *, max_calls: int, max_streams: int) -> None:
        self._limits = {False: max_calls, True: max_streams}
        self._names = {False: "max_concurrent_calls", True: "max_streams"}
        self._active = {False: 0, True: 0}

    def __call__(self, call: Call) -> Leave | None:
        """Holds a place for the call until it ends.

        Raises:
            CallFailed: OVERLOADED if there is none.
        """
        if call.method.infrastructure:
            return None
        streams = call.method.is_stream
        if self._active[streams] >= self._limits[streams]:
            raise CallFailed(
                StepwireError(
                    Reason.OVERLOADED,
                    f"the server is at its limit {self._names[streams]} of {self._limits[streams]}",
                    metadata={"limit": self._names[streams]},
                    retry_after=_RETRY_AFTER,
                )
            )
        self._active[streams] += 1
        return self._give_back

    def _give_back(self, call: Call, _error: BaseException | None) -> None:
        self._active[call.method.is_stream] -= 1
