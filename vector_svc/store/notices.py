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
# How long nothing may come before Postgres is asked whether it is there, and has to answer.
QUIET_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0

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
            while not await _came(lost):
                # A connection may have ended without a word: whoever listens would never know.
                await connection.fetchval("SELECT 1", timeout=ANSWER_SECONDS)
        finally:
            connection.terminate()


async def _came(event: asyncio.Event) -> bool:
    """Whether an event came before it is time to ask for an answer."""
    try:
        async with asyncio.timeout(QUIET_SECONDS):
            return await event.wait()
    except TimeoutError:
        return False
