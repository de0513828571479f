"""Holds the catalogue in use, and takes a changed file in its place, whole or not at all."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from router_svc.catalogue.faults import CatalogueError
from router_svc.catalogue.models import Catalogue, Endpoint

_logger = logging.getLogger(__name__)

_VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A catalogue with all that belongs to it; never changed.

    Attributes:
        catalogue: The models.
        keys: The API keys by the name of their environment variable.
        version: Changes when the text does.
    """

    catalogue: Catalogue
    keys: Mapping[str, str]
    version: str

    def key(self, endpoint: Endpoint) -> str | None:
        """Returns the API key of `endpoint`; None for one that asks for none."""
        return None if endpoint.api_key_env is None else self.keys[endpoint.api_key_env]


class Source(Protocol):
    """Where the catalogue comes from."""

    def read(self) -> Snapshot:
        """Returns the catalogue as it is there now.

        Raises:
            CatalogueError: It cannot be used.
        """
        ...


class CatalogueHolder:
    """The catalogue in use.

    A call takes `current` once and keeps to it, so that a change never reaches a call
    half-way.

    Args:
        source: Where a new one is read.
        snapshot: What is in use from the beginning.
        noticed: Told after each reading of a changed source whether it was taken.
    """

    def __init__(
        self, source: Source, snapshot: Snapshot, *, noticed: Callable[[bool], None]
    ) -> None:
        self._source = source
        self._noticed = noticed
        self._subscribers: list[Callable[[Snapshot], None]] = []
        self.current = snapshot
        self.refused = ""
        """Why the source was refused when it was last read; empty when all is well."""

    @property
    def catalogue(self) -> Catalogue:
        """The models in use."""
        return self.current.catalogue

    def subscribe(self, told: Callable[[Snapshot], None]) -> None:
        """Has `told` called now, and after each change with the new catalogue."""
        self._subscribers.append(told)
        told(self.current)

    def read(self) -> tuple[Snapshot | None, str]:
        """Reads the source without using it; blocks, and is meant for a thread.

        Returns:
            What was read, or None and why it cannot be used.
        """
        try:
            return self._source.read(), ""
        except CatalogueError as error:
            return None, str(error)

    def take(self, read: Snapshot | None, refused: str) -> None:
        """Uses what `read` returned from now on, or keeps what there was."""
        if read is None:
            if refused != self.refused:
                _logger.error("the changed catalogue is refused", extra={"why": refused})
                self._noticed(False)
            self.refused = refused
            return
        healed, self.refused = bool(self.refused), ""
        if read.version == self.current.version:
            if healed:
                self._noticed(True)
            return
        self.current = read
        _logger.info(
            "the catalogue has changed",
            extra={
                "version": read.version,
                "models": [model.name for model in read.catalogue.models],
            },
        )
        self._noticed(True)
        for told in self._subscribers:
            told(read)


def version_of(*texts: str) -> str:
    """Returns a short name for the content of `texts`."""
    digest = hashlib.sha256("\0".join(texts).encode())
    return digest.hexdigest()[:_VERSION_DIGITS]
