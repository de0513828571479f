"""The life of one part: started when its needs are ready, and again when it crashes."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

from stepwire.stack.child import Child
from stepwire.stack.logs import PartLog
from stepwire.stack.part import Part, PartError
from stepwire.stack.state import PartPhase, PartState

PROBE_PAUSE_SECONDS = 0.1
PROBE_LIMIT_SECONDS = 5.0
FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 10.0
# A part that ran this long is well; its next crash counts as the first.
WELL_AFTER_SECONDS = 30.0
MAX_CRASHES_IN_A_ROW = 8


class PartRunner:
    """Runs one part until it is told to stop."""

    def __init__(
        self, part: Part, log: PartLog, report: Callable[[PartState, PartState], None]
    ) -> None:
        """Starts nothing yet.

        Args:
            part: What to run.
            log: Where its output goes.
            report: Called with the state before and after every change.
        """
        self.part = part
        self.ready = asyncio.Event()
        self.state = PartState(name=part.name, ports=dict(part.ports))
        self._log = log
        self._report = report
        self._child: Child | None = None

    async def run(self, needs: Iterable["PartRunner"]) -> None:
        """Runs the part for ever; cancel to end, then call `stop`.

        Raises:
            PartError: It did not start, or crashed too often in a row.
        """
        for need in needs:
            self._change(detail=f"waits for {need.part.name}")
            await need.ready.wait()
        child = await self._start()
        crashes = 0
        while True:
            since = time.monotonic()
            await child.wait()
            if time.monotonic() - since >= WELL_AFTER_SECONDS:
                crashes = 0
            child, crashes = await self._restart(child.exit_text, crashes)

    async def stop(self) -> None:
        """Ends the part's process if it has one. `run` must have been cancelled."""
        detail = ""
        if self._child is not None:
            if await self._child.stop(grace_seconds=self.part.stop_seconds):
                detail = f"killed after {self.part.stop_seconds:g} s"
            self._child = None
        if self.state.phase is PartPhase.FAILED:
            self._change(process=None)
        else:
            self._change(phase=PartPhase.STOPPED, process=None, detail=detail)

    async def _restart(self, ended: str, crashes: int) -> tuple[Child, int]:
        """Starts the part again after a crash, as often as it takes within the limit."""
        self.ready.clear()
        while True:
            crashes += 1
            if crashes > MAX_CRASHES_IN_A_ROW:
                raise self._failed(f"{ended}; it has crashed {crashes} times in a row")
            pause = min(FIRST_BACKOFF_SECONDS * 2 ** (crashes - 1), LONGEST_BACKOFF_SECONDS)
            self._change(
                phase=PartPhase.RESTARTING,
                process=None,
                restarts=self.state.restarts + 1,
                detail=f"{ended}; started again in {pause:g} s",
            )
            await asyncio.sleep(pause)
            try:
                return await self._start(), crashes
            except PartError as error:
                if self._child is not None:
                    await self._child.stop(grace_seconds=self.part.stop_seconds)
                ended = error.reason

    async def _start(self) -> Child:
        """Starts the process and waits until it is ready."""
        begun = time.monotonic()
        self._change(phase=PartPhase.STARTING, detail="")
        try:
            await _in_thread(self.part.prepare)
            command = self.part.command()
            child = self._child = Child(command, self._log)
        except Exception as error:
            raise self._failed(f"could not be started: {error}") from error
        self._change(process=child.mark, stop_signal=int(command.stop_signal))
        await self._until_ready(child)
        self._change(phase=PartPhase.READY, started_seconds=round(time.monotonic() - begun, 2))
        self.ready.set()
        return child

    async def _until_ready(self, child: Child) -> None:
        ended = asyncio.ensure_future(child.wait())
        probe = asyncio.ensure_future(self._probe())
        try:
            async with asyncio.timeout(self.part.start_seconds):
                await asyncio.wait({ended, probe}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError as error:
            raise self._failed(f"was not ready within {self.part.start_seconds:g} s") from error
        finally:
            for task in (ended, probe):
                if not task.done():
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
        if not ended.cancelled():
            raise self._failed(f"{child.exit_text} before it was ready")
        failure = probe.exception()
        if failure is not None:
            raise self._failed(f"cannot be used: {failure}") from failure

    async def _probe(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                if await asyncio.wait_for(self.part.is_ready(), PROBE_LIMIT_SECONDS):
                    return
            await asyncio.sleep(PROBE_PAUSE_SECONDS)

    def _failed(self, reason: str) -> PartError:
        self._change(phase=PartPhase.FAILED, detail=reason)
        return PartError(self.part.name, reason, self._log.last_lines)

    def _change(self, **changes: Any) -> None:
        before = self.state
        self.state = dataclasses.replace(before, **changes)
        self._report(before, self.state)


async def _in_thread(work: Callable[[], None]) -> None:
    """Runs blocking work to its end even if the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
