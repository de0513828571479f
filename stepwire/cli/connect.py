"""Finds the gateway."""

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from stepwire.cli.exits import CommandError, ExitCode
from stepwire.sdk.address import CA_VARIABLE
from stepwire.sdk.client import Client
from stepwire.stack.ports import LOOPBACK, PORT_OFFSET_VARIABLE, PortError, PortPlan
from stepwire.stack.state import StateError, default_home, read_state

Connection = AbstractAsyncContextManager[Client]


@asynccontextmanager
async def connect(gateway: str | None, home: Path | None) -> AsyncIterator[Client]:
    """Opens a client of the gateway that the user named, or of the local stack's.

    Args:
        gateway: Host and port; None for those of the local stack.
        home: Home folder of the local stack; None for the default one.

    Raises:
        CommandError: The local stack's state cannot be read, a variable that moves its ports
            is wrong, or the file of trusted authorities cannot be read.
    """
    target = gateway or _local_gateway(home_folder(home))
    try:
        opened = Client(target)
    except OSError as error:
        raise CommandError(f"{CA_VARIABLE}: {error}") from error
    async with opened as client:
        yield client


def home_folder(home: Path | None) -> Path:
    """Returns the home folder that the user named, or the default one."""
    return default_home() if home is None else home.absolute()


def _local_gateway(home: Path) -> str:
    """Returns where the stack of a home folder takes calls, or last did, or would.

    A stopped stack's own address and no other: at the usual one, another checkout's stack
    may listen.
    """
    try:
        state = read_state(home)
    except StateError as error:
        raise CommandError(str(error), ExitCode.CONFLICT) from error
    if state is not None and state.gateway:
        return state.gateway
    text = os.environ.get(PORT_OFFSET_VARIABLE) or "0"
    try:
        return f"{LOOPBACK}:{PortPlan(int(text), os.environ).number('gateway')}"
    except ValueError as error:
        raise CommandError(f"{PORT_OFFSET_VARIABLE}={text!r} is not a number") from error
    except PortError as error:
        raise CommandError(str(error)) from error
