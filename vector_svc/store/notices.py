"""What Postgres tells of changes that other instances made."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import asyncpg

from stepwire.db.pool import START_ERRORS

CHANNEL: Final = "stepwire_vector"
CONNECT_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Notices:
    """Listens for as long as it runs.

    Args:
        url: Of the database.
        told: Called with every change, and when listening begins and ends; with whether
            changes are told from then on.
    """

    def __init__(self, url: str, told: Callable[[bool], None]) -> None:
        self._url = url
        self._told = told

    async def run(self) -> None:
        """Listen for ever; connect again when the connection is lost."""
        while True:
            try:
                await self._listen()
            except START_ERRORS as error:
                logger.warning("changes are not told", extra={"cause": repr(error)})
            finally:
                self._told(False)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            server_settings={"application_name": "stepwire-vector-notices"},
        )
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(CHANNEL, lambda *_: self._told(True))
            self._told(True)
            await lost.wait()
        finally:
            connection.terminate()
