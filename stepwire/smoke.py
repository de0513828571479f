"""Runs one small task through a gateway: `python -m stepwire.smoke HOST:PORT`.

Told to a system that has just been installed, it shows that gateway, executor, broker, worker
and record work together. The exit code is 0 if the task has succeeded.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta

from stepwire.api.executor.v1.task_pb2 import TaskState
from stepwire.errors import StepwireError
from stepwire.sdk.client import Client
from stepwire.sdk.graph import graph, transform

PATIENCE_SECONDS = 60.0


async def run_task(gateway: str, *, queue: str, patience: timedelta) -> str:
    """Submits a task of two steps and waits for its end; returns the name of its last state.

    Raises:
        StepwireError: The gateway, or the executor behind it, does not answer.
    """
    steps = graph(
        transform("greet", expression="'hello ' + input.name", queue=queue),
        transform("shout", expression="steps.greet + '!'", depends_on=["greet"], queue=queue),
    )
    async with Client(gateway) as client:
        task = await client.create(steps, {"name": "cluster"})
        ended = await client.wait(task.task_id, timeout=patience)
    return TaskState.Name(ended.state)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, and exits."""
    parser = argparse.ArgumentParser(prog="python -m stepwire.smoke", description=__doc__)
    parser.add_argument("gateway", help="host and port")
    parser.add_argument("--queue", default="default", help="queue in which the steps wait")
    parser.add_argument("--patience-seconds", type=float, default=PATIENCE_SECONDS)
    options = parser.parse_args(arguments)
    patience = timedelta(seconds=options.patience_seconds)
    try:
        state = asyncio.run(run_task(options.gateway, queue=options.queue, patience=patience))
    except StepwireError as error:
        sys.exit(f"{options.gateway}: {error}")
    sys.stdout.write(f"{state}\n")
    sys.exit(0 if state == "TASK_STATE_SUCCEEDED" else 1)


if __name__ == "__main__":
    main()
