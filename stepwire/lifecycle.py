"""The life of a process: loop, logs, telemetry, signals, and an orderly end.

Used by services through `stepwire.rpc.run`, and by processes without a gRPC server
through `run_process`.
"""

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import uvloop

from stepwire import failpoints
from stepwire.environment import misspelt
from stepwire.settings import ProcessSettings

if TYPE_CHECKING:
    from stepwire.telemetry.providers import Telemetry

_logger = logging.getLogger(__name__)

# Kept back from the time to drain, so that closing and the last spans have some.
_CLOSING_SHARE = 0.2
_MAX_CLOSING_SECONDS = 2.0
_MIN_FLUSH_SECONDS = 0.5

# Objects made, less those freed, between two looks for cycles of garbage. Python's 700 is
# reached by a few calls at once, whose objects are all in use; ours rarely form cycles, and
# gRPC's are five to a call. All calls stand still for a look, 1 to 2 ms per 1,000 objects.
_COLLECT_AFTER_OBJECTS = 10_000


class StartError(Exception):
    """The process cannot start, for a reason that its message tells an operator."""


class Stopping(asyncio.Event):
    """Set when the process is asked to stop; knows how long it may take."""

    def __init__(self, drain_seconds: float) -> None:
        super().__init__()
        self._drain_seconds = drain_seconds
        self._closing_seconds = min(_MAX_CLOSING_SECONDS, drain_seconds * _CLOSING_SHARE)
        self._end: float | None = None

    def set(self) -> None:
        """Starts the clock of the drain."""
        if self._end is None:
            self._end = time.monotonic() + self._drain_seconds
        super().set()

    def drain_seconds_left(self) -> float:
        """Returns how long the work under way may still take, in seconds."""
        return max(0.0, self.seconds_left() - self._closing_seconds)

    def main_seconds_left(self) -> float:
        """Returns the time until `main` is cancelled, in seconds.

        A little more than the work has, so that `main` can see its work end.
        """
        return max(0.0, self.seconds_left() - self._closing_seconds / 2)

    def seconds_left(self) -> float:
        """Returns the time until the process must be gone, in seconds."""
        if self._end is None:
            return self._drain_seconds
        return max(0.0, self._end - time.monotonic())


# Does the process's work, opening what it needs on the stack; returns some time after
# the event is set. An error from it ends the process with exit code 1.
Main = Callable[[AsyncExitStack, Stopping], Awaitable[None]]


def run_process(name: str, settings: ProcessSettings, main: Main) -> None:
    """Runs a process until it is told to stop; blocks.

    On SIGTERM or SIGINT the event given to `main` is set. Then, within
    `drain_seconds` in all: `main` returns (or is cancelled), what is on the stack is
    closed in reverse, and the last telemetry is sent. A second signal cancels `main`
    at once.

    Args:
        name: The process's name in logs and telemetry.
        settings: Its settings.
        main: What it does.

    Raises:
        SystemExit: With code 1, if it cannot start or `main` fails; the log says why.
    """
    # Imported here, since this is half a second which clients and tests that only
    # import `stepwire.rpc` need not spend.
    from stepwire.telemetry.providers import MetricsPortError, setup  # noqa: PLC0415

    try:
        telemetry = setup(name, settings)
    except MetricsPortError as error:
        _logger.critical("cannot start: %s", error)
        sys.exit(1)
    for variable, meant in misspelt(type(settings)):
        _logger.warning("%s is no setting; is %s meant?", variable, meant)
    failpoints.arm(settings.failpoints)
    _collect_less_often()
    loop_factory = uvloop.new_event_loop if settings.event_loop == "uvloop" else None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        succeeded = runner.run(_run(name, settings, main, telemetry))
    if not succeeded:
        sys.exit(1)


def _collect_less_often() -> None:
    """Leaves what was imported out of the search for garbage, and searches less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)


async def _run(name: str, settings: ProcessSettings, main: Main, telemetry: "Telemetry") -> bool:
    asyncio.get_running_loop().set_exception_handler(_log_loop_error)
    stopping = Stopping(settings.drain_seconds)
    # Closing happens in the task of `main`, as some context managers demand.
    task = asyncio.create_task(_work(main, stopping), name=f"{name} main")
    _stop_on_signals(name, task, stopping)
    await _until_ended(task, stopping)
    succeeded = False
    if task.cancelled():
        _logger.error("%s was cut off before its work had ended", name)
    elif isinstance(error := task.exception(), StartError):
        _logger.critical("cannot start: %s", error)
    elif error is not None:
        _logger.critical("%s failed", name, exc_info=error)
    else:
        succeeded = True
        _logger.info("%s has stopped", name)
    flush_seconds = max(stopping.seconds_left(), _MIN_FLUSH_SECONDS)
    await asyncio.to_thread(telemetry.shutdown, timeout_seconds=flush_seconds)
    return succeeded


async def _work(main: Main, stopping: Stopping) -> None:
    async with AsyncExitStack() as stack:
        await main(stack, stopping)


def _stop_on_signals(name: str, task: asyncio.Task[None], stopping: Stopping) -> None:
    def stop(signal_number: signal.Signals) -> None:
        if stopping.is_set():
            _logger.warning("%s stops at once: %s again", name, signal_number.name)
            task.cancel()
        else:
            _logger.info("%s is stopping: %s", name, signal_number.name)
            stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)


async def _until_ended(task: asyncio.Task[None], stopping: Stopping) -> None:
    asked = asyncio.create_task(stopping.wait(), name="stopping")
    await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    stopping.set()
    # What is cut off first is the work; closing has the rest of the time.
    for seconds in (stopping.main_seconds_left, stopping.seconds_left):
        await asyncio.wait({task}, timeout=seconds())
        if task.done():
            return
        task.cancel()
    await asyncio.wait({task})


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    del loop
    _logger.error(
        "an error that nobody awaited: %s",
        context.get("message"),
        exc_info=context.get("exception"),
        extra={"source": repr(context.get("task") or context.get("future"))},
    )
