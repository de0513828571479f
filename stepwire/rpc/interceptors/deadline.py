"""Ends every call at its deadline, and tells what is left to whom it calls."""

import asyncio
import time

from stepwire.call import CallInfo, enter_call
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.interceptors.chain import Call, CallFailed, Leave

# The answer must leave before the caller's own clock ends the call, or the caller
# sees a bare status without our reason. gRPC rounds a timeout up on its way, by as
# much as a hundredth.
_ROUNDED_SHARE = 0.01
_ANSWER_SECONDS = 0.02
_ANSWER_SHARE = 0.04


class Deadline:
    """Enforces the caller's deadline, within the server's limits.

    A unary call without one gets the default, and a longer one is cut to the
    maximum. A stream, of either side, keeps the caller's, and may have none: a watch lasts
    for as long as someone watches, and an import for as long as someone sends.
    """

    def __init__(self, *, default_seconds: float, max_seconds: float) -> None:
        self._default_seconds = min(default_seconds, max_seconds)
        self._max_seconds = max_seconds

    def __call__(self, call: Call) -> Leave | None:
        """Cancels the call when its time is over; it fails by DEADLINE_EXCEEDED then."""
        seconds = self._seconds(call)
        if seconds is None:
            return None
        known = call.info
        ends = time.monotonic() + seconds
        call.info = CallInfo(known.tenant_id, known.request_id, ends, known.traceparent)
        enter_call(call.info)
        return _Alarm(seconds).stop

    def _seconds(self, call: Call) -> float | None:
        remaining: float | None = call.context.time_remaining()
        if remaining is not None:
            remaining -= remaining * _ROUNDED_SHARE
            remaining -= min(_ANSWER_SECONDS, remaining * _ANSWER_SHARE)
        if call.method.is_stream:
            return remaining
        if remaining is None:
            return self._default_seconds
        return min(remaining, self._max_seconds)


class _Alarm:
    """Cancels the current task after a time; `asyncio.timeout` without the awaiting."""

    __slots__ = ("_cancelling", "_rang", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._seconds = seconds
        self._task = task
        self._cancelling = task.cancelling()
        self._rang = False
        self._timer = task.get_loop().call_later(seconds, self._ring)

    def stop(self, _call: Call, error: BaseException | None) -> CallFailed | None:
        """Says so if it was the alarm, and nothing else, that cancelled the task."""
        self._timer.cancel()
        if not self._rang:
            return None
        alone = self._task.uncancel() <= self._cancelling
        if not alone or not isinstance(error, asyncio.CancelledError):
            return None
        return CallFailed(
            StepwireError(
                Reason.DEADLINE_EXCEEDED, f"the call took longer than {self._seconds:.3f} s"
            )
        )

    def _ring(self) -> None:
        self._rang = True
        self._task.cancel()
