"""Looks at the catalogue's source again and again, off the event loop."""

import asyncio
import logging

from router_svc.catalogue.holder import CatalogueHolder

_logger = logging.getLogger(__name__)


async def watch(holder: CatalogueHolder, *, every_seconds: float) -> None:
    """Reads the source every so often, for ever, and takes what has changed.

    The whole text is read each time: a catalogue is small, and times of change lie
    where files are mounted or copied.
    """
    failing = False
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await look(holder)
        except Exception:
            # Told once, not at every look.
            if not failing:
                _logger.exception("the catalogue cannot be read again")
            failing = True
        else:
            failing = False


async def look(holder: CatalogueHolder) -> None:
    """Reads the source once, and takes what has changed."""
    holder.take(*await asyncio.to_thread(holder.read))
