"""Finds the gateway."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from stepwire.cli.exits import CommandError, ExitCode
from stepwire.sdk.client import Client
from stepwire.stack.state import StateError, default_home, read_state

DEFAULT_GATEWAY = "127.0.0.1:8080"

Connection = AbstractAsyncContextManager[Client]


@asynccontextmanager
async def connect(gateway: str | None, home: Path | None) -> AsyncIterator[Client]:
    """Opens a client of the gateway that the user named, or of the local stack's.

    Args:
        gateway: Host and port; None for the local stack's, or the default address if there
            is no local stack.
        home: Home folder of the local stack; None for the default one.

    Raises:
        CommandError: The local stack's state cannot be read.
    """
    target = gateway or _local_gateway(home_folder(home)) or DEFAULT_GATEWAY
    async with Client(target) as client:
        yield client


def home_folder(home: Path | None) -> Path:
    """Returns the home folder that the user named, or the default one."""
    return default_home() if home is None else home.absolute()


def _local_gateway(home: Path) -> str | None:
    try:
        state = read_state(home)
    except StateError as error:
        raise CommandError(str(error), ExitCode.CONFLICT) from error
    return state.gateway if state is not None and state.is_running() else None
