"""A running process as the supervisor's event loop sees it."""

import asyncio
import contextlib
import os
import signal
import subprocess

from stepwire.stack.logs import PartLog
from stepwire.stack.mark import ProcessMark, mark_of
from stepwire.stack.process import Command

_CHUNK_BYTES = 64 * 1024


class Child:
    """A process whose output goes to a log and whose end can be awaited.

    To be made in the main thread: the kernel ends the process with the thread that
    started it.
    """

    def __init__(self, command: Command, log: PartLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._command = command
        self._log = log
        self._ended = asyncio.Event()
        self._output, write_end = os.pipe()
        try:
            self._process: subprocess.Popen[bytes] = command.start(write_end)
        except OSError:
            os.close(self._output)
            raise
        finally:
            os.close(write_end)
        self.mark: ProcessMark | None = mark_of(self._process.pid)
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read)
        self._end_notice = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._end_notice, self._on_end)

    @property
    def exit_text(self) -> str:
        """How the process ended, in words."""
        code = self._process.returncode
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    async def wait(self) -> None:
        """Waits for the end of the process."""
        await self._ended.wait()

    async def stop(self, *, grace_seconds: float) -> bool:
        """Ends the process, by force after the grace; returns whether force was needed."""
        if self._ended.is_set():
            return False
        deadline = self._loop.time() + grace_seconds
        while not self._ended.is_set() and self._loop.time() < deadline:
            self._process.send_signal(self._command.stop_signal)
            pause = self._command.stop_again_seconds or grace_seconds
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), min(pause, grace_seconds))
        if self._ended.is_set():
            return False
        self._process.kill()
        await self._ended.wait()
        return True

    def _on_end(self) -> None:
        self._loop.remove_reader(self._end_notice)
        os.close(self._end_notice)
        # What it started and left behind is in its process group, whose number is not
        # given to another as long as the ended process has not been waited for.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._read()
        if not self._ended.is_set():
            self._close_output()
        self._ended.set()

    def _read(self) -> None:
        """Takes all output that is there."""
        while True:
            try:
                chunk = os.read(self._output, _CHUNK_BYTES)
            except BlockingIOError:
                return
            except OSError:
                chunk = b""
            if not chunk:
                # Closed by the process; its end is noticed separately.
                self._loop.remove_reader(self._output)
                return
            self._log.feed(chunk)

    def _close_output(self) -> None:
        self._loop.remove_reader(self._output)
        os.close(self._output)
        self._log.end()
