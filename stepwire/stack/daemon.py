"""The supervisor process: takes the home folder's lock, runs the plan, keeps the state."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from stepwire.stack.home import locked, make_home
from stepwire.stack.logs import StackLogs
from stepwire.stack.mark import ProcessMark, mark_of
from stepwire.stack.part import PartError
from stepwire.stack.plan import StackOptions, StackPlan, make_plan
from stepwire.stack.ports import PortError, check_free
from stepwire.stack.secrets import stack_secrets
from stepwire.stack.state import Phase, StackState, StateError, read_state, write_state
from stepwire.stack.supervisor import Supervisor

LEFTOVER_GRACE_SECONDS = 10.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StackError(Exception):
    """The stack did not start or did not go on; the message is for the user."""


def run_stack(options: StackOptions, *, on_change: Callable[[StackState], None]) -> None:
    """Runs a stack in this process until it is told to stop. To be called in the main thread.

    Every change of the state is written to the home folder and passed to `on_change`.

    Raises:
        AlreadyRunningError: The stack of this home folder runs already.
        StackError: It could not be started, or a part failed for good. All that had
            been started is stopped.
    """
    make_home(options.home)
    with locked(options.home):
        end_leftovers(options.home)
        logs = StackLogs(options.home)
        try:
            asyncio.run(_run(options, logs, on_change))
        finally:
            logs.close()


def end_leftovers(home: Path) -> bool:
    """Ends what a supervisor that was killed has left running. Blocks.

    The kernel ends the parts with their supervisor; this finds those that are still on
    their way, or that it missed.

    Returns:
        Whether there was something to end.

    Raises:
        StackError: The state file cannot be understood.
    """
    try:
        state = read_state(home)
    except StateError as error:
        raise StackError(str(error)) from error
    if state is None or not state.has_processes():
        return False
    for part in reversed(state.parts):
        if part.process is not None:
            part.process.end(signal.Signals(part.stop_signal), grace_seconds=LEFTOVER_GRACE_SECONDS)
    return True


async def _run(
    options: StackOptions, logs: StackLogs, on_change: Callable[[StackState], None]
) -> None:
    def report(state: StackState) -> None:
        write_state(options.home, state)
        on_change(state)

    try:
        plan = make_plan(options, secrets=stack_secrets(options.home), environment=dict(os.environ))
        check_free(plan.claims())
    except PortError as error:
        logs.note(str(error))
        report(_first_state(options, None, failure=str(error)))
        raise StackError(str(error)) from error
    supervisor = Supervisor(plan.parts, logs=logs, state=_first_state(options, plan), report=report)
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, supervisor.request_stop)
    try:
        await supervisor.run()
    except PartError as error:
        raise StackError(error.with_log()) from error


def _first_state(options: StackOptions, plan: StackPlan | None, *, failure: str = "") -> StackState:
    return StackState(
        phase=Phase.FAILED if failure else Phase.STARTING,
        supervisor=_own_mark(),
        port_offset=options.port_offset,
        workers=options.workers,
        broker=plan.broker if plan is not None else "",
        gateway=plan.gateway if plan is not None else "",
        failure=failure,
        auth=options.auth,
    )


def _own_mark() -> ProcessMark:
    mark = mark_of(os.getpid())
    if mark is None:
        raise StackError("/proc does not show this process; the stack needs a mounted /proc")
    return mark
