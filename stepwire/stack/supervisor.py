"""Runs the parts of a stack: starts them in the order of their needs, stops in reverse."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence

from stepwire.stack.logs import StackLogs
from stepwire.stack.part import Part, PartError
from stepwire.stack.runner import PartRunner
from stepwire.stack.state import PartState, Phase, StackState

Report = Callable[[StackState], None]


class Supervisor:
    """Runs parts until it is asked to stop or one of them fails for good."""

    def __init__(
        self, parts: Sequence[Part], *, logs: StackLogs, state: StackState, report: Report
    ) -> None:
        """Starts nothing yet.

        Args:
            parts: What to run. A part's needs come before it.
            logs: Where the parts' output goes.
            state: What is known of the stack already: all but phase and parts.
            report: Called with the new state at every change.
        """
        self._logs = logs
        self._report = report
        self._stop_asked = asyncio.Event()
        self._runners = {
            part.name: PartRunner(part, logs.part(part.name), self._on_change) for part in parts
        }
        self._state = dataclasses.replace(
            state,
            phase=Phase.STARTING,
            parts=tuple(runner.state for runner in self._runners.values()),
        )

    @property
    def state(self) -> StackState:
        """The stack's present state."""
        return self._state

    def request_stop(self) -> None:
        """Asks `run` to stop everything and return; may be called at any time."""
        self._stop_asked.set()

    async def run(self) -> None:
        """Runs the parts until `request_stop`; all are stopped when it returns or raises.

        Raises:
            PartError: A part did not start, or crashed too often in a row.
        """
        self._update(phase=Phase.STARTING)
        tasks = {
            name: asyncio.create_task(
                runner.run([self._runners[need] for need in runner.part.needs]), name=name
            )
            for name, runner in self._runners.items()
        }
        try:
            await self._watch(set(tasks.values()))
        except PartError as error:
            self._logs.note(f"{error}; stopping the others")
            await self._stop_all(tasks)
            self._update(phase=Phase.FAILED, failure=error.with_log())
            raise
        except BaseException:
            await self._stop_all(tasks)
            raise
        await self._stop_all(tasks)
        self._update(phase=Phase.STOPPED)

    async def _watch(self, tasks: set[asyncio.Task[None]]) -> None:
        """Waits for a request to stop; raises the failure of a part."""
        stop = asyncio.create_task(self._stop_asked.wait())
        all_ready = asyncio.create_task(self._until_all_ready())
        try:
            while not stop.done():
                waited: set[asyncio.Task[None] | asyncio.Task[bool]] = {*tasks, stop}
                if not all_ready.done():
                    waited.add(all_ready)
                done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                for task in done & tasks:
                    task.result()
        finally:
            for helper in (stop, all_ready):
                helper.cancel()

    async def _until_all_ready(self) -> None:
        for runner in self._runners.values():
            await runner.ready.wait()
        self._update(phase=Phase.READY)

    async def _stop_all(self, tasks: dict[str, asyncio.Task[None]]) -> None:
        """Stops every part, after the parts that need or use it."""
        self._update(phase=Phase.STOPPING)
        stopped = {name: asyncio.Event() for name in self._runners}

        async def stop_one(name: str, runner: PartRunner) -> None:
            tasks[name].cancel()
            with contextlib.suppress(asyncio.CancelledError, PartError):
                await tasks[name]
            for other in self._runners.values():
                if name in {*other.part.needs, *other.part.uses}:
                    await stopped[other.part.name].wait()
            await runner.stop()
            stopped[name].set()

        await asyncio.gather(*(stop_one(name, runner) for name, runner in self._runners.items()))

    def _on_change(self, before: PartState, after: PartState) -> None:
        if (before.phase, before.detail) != (after.phase, after.detail):
            text = f"{after.name}: {after.phase}"
            self._logs.note(f"{text} ({after.detail})" if after.detail else text)
        self._update(parts=tuple(runner.state for runner in self._runners.values()))

    def _update(self, **changes: object) -> None:
        self._state = dataclasses.replace(self._state, **changes)  # type: ignore[arg-type]
        self._report(self._state)
