"""Ends every call at its deadline, and tells what is left to whom it calls."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stepwire.call import CallInfo, enter_call
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.interceptors.chain import Call, CallFailed

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

    @contextmanager
    def __call__(self, call: Call) -> Iterator[None]:
        """Cancels the block when the time is over.

        Raises:
            CallFailed: DEADLINE_EXCEEDED then.
        """
        seconds = self._seconds(call)
        if seconds is None:
            yield
            return
        call.info = CallInfo(
            tenant_id=call.info.tenant_id,
            request_id=call.info.request_id,
            deadline=time.monotonic() + seconds,
            traceparent=call.info.traceparent,
        )
        enter_call(call.info)
        alarm = _Alarm(seconds)
        try:
            yield
        except asyncio.CancelledError as error:
            if alarm.stop():
                raise CallFailed(
                    StepwireError(
                        Reason.DEADLINE_EXCEEDED, f"the call took longer than {seconds:.3f} s"
                    )
                ) from error
            raise
        finally:
            alarm.stop()

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

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._rang = False
        self._timer = task.get_loop().call_later(seconds, self._ring)

    def stop(self) -> bool:
        """Returns whether it was the alarm, and nothing else, that cancelled the task."""
        self._timer.cancel()
        rang, self._rang = self._rang, False
        return rang and self._task.uncancel() <= self._cancelling

    def _ring(self) -> None:
        self._rang = True
        self._task.cancel()
