"""What Postgres tells of what other instances do (NOTIFY)."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import asyncpg

from stepwire.db.pool import CONNECT_TIMEOUT_SECONDS, START_ERRORS

PAUSE_SECONDS: Final = 1.0
# How long nothing may come before Postgres is asked whether it is there, and has to answer.
QUIET_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class Notices:
    """Listens on a channel for as long as it runs, by a connection of its own.

    What is told while there is no connection is lost. Whoever must not miss anything looks it
    up again and again, or believes nothing while nobody `listens`.

    Args:
        url: Of the database.
        channel: What to listen on.
        told: Called with the text of each notice.
        listens: Called with whether notices are told from then on, when that begins and when
            it ends.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        told: Callable[[str], None],
        listens: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._channel = channel
        self._told = told
        self._listens = listens

    async def run(self) -> None:
        """Listen for ever; connect again when the connection is lost."""
        while True:
            try:
                await self._listen()
            except START_ERRORS as error:
                logger.warning(
                    "notices do not come", extra={"channel": self._channel, "cause": repr(error)}
                )
            finally:
                self._listens(False)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={"application_name": f"{self._channel} notices"},
        )
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(self._channel, self._heard)
            self._listens(True)
            while not await _came(lost):
                # A connection may have ended without a word: whoever listens would never know.
                await connection.fetchval("SELECT 1", timeout=ANSWER_SECONDS)
        finally:
            connection.terminate()

    def _heard(self, *notice: object) -> None:
        self._told(str(notice[-1]))


async def _came(event: asyncio.Event) -> bool:
    """Whether an event came before it is time to ask for an answer."""
    try:
        async with asyncio.timeout(QUIET_SECONDS):
            return await event.wait()
    except TimeoutError:
        return False
