"""Notes when keys are used: in memory at each call, and now and then in the record."""

import asyncio
import logging
from datetime import datetime
from typing import Final

from gateway.keys.ports import KeyStore
from stepwire.errors import StepwireError

FLUSH_SECONDS: Final = 30.0

_logger = logging.getLogger(__name__)


class Uses:
    """When keys were used last."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._used: dict[str, datetime] = {}

    def note(self, key_id: str, now: datetime) -> None:
        """Notes that a key is used."""
        self._used[key_id] = now

    async def run(self) -> None:
        """Writes down what was noted, for ever."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Writes down what was noted; what cannot be written waits for the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._store.touch(used)
        except StepwireError as error:
            self._used = used | self._used
            _logger.warning("uses of keys are not written down", extra={"error": error.message})
