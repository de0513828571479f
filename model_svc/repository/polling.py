"""Looks at the folder of models from time to time."""

import asyncio
import logging

from model_svc.repository.repository import Repository

_logger = logging.getLogger(__name__)


async def poll(repository: Repository, seconds: float) -> None:
    """Has the repository follow its folder, until it is cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await repository.refresh()
        except Exception:
            _logger.exception("following the folder of models failed")
