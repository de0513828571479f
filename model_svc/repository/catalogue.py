"""The models that there are: those built in, and those of a folder."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from model_svc.repository.folder import model_folders, told_name
from model_svc.repository.load_threads import LoadThreads
from model_svc.repository.shelf import Shelf
from model_svc.repository.sources import Source
from model_svc.sessions.errors import ModelLoadError


class Catalogue:
    """A shelf for each model. To be used from one event loop.

    A model of the folder takes the place of a built-in one of the same name, for as long as
    it is there.

    Attributes:
        shelves: By the model's name.
        threads: Where models are looked for and loaded.
    """

    def __init__(
        self,
        built_in: Mapping[str, Source],
        folder: Path | None,
        source_of: Callable[[Path], Source],
        threads: LoadThreads,
    ) -> None:
        """Reads nothing yet.

        Args:
            built_in: Models that are always there, by name.
            folder: Folder of further models; None for none.
            source_of: Returns the source of a model in the folder.
            threads: Where models are looked for and loaded.
        """
        self.shelves = {name: Shelf(name, source, threads) for name, source in built_in.items()}
        self._built_in = built_in
        self._folder = folder
        self._source_of = source_of
        self.threads = threads
        self._in_folder: frozenset[str] = frozenset()
        self._one_at_a_time = asyncio.Lock()

    async def look(self) -> None:
        """Makes a shelf for each new model of the folder, and removes those that are gone.

        Raises:
            ModelLoadError: The folder cannot be read.
        """
        if self._folder is None:
            return
        # Two looks may not overtake each other: the older one would take away what the
        # newer one found.
        async with self._one_at_a_time:
            try:
                homes = await self.threads.run(
                    "", f"reading {self._folder}", partial(_homes, self._folder)
                )
            except OSError as error:
                raise ModelLoadError(f"repository folder {self._folder}: {error}") from error
            gone = self._follow(homes)
        for shelf in gone:
            await shelf.remove()

    def _follow(self, homes: Mapping[str, Path]) -> list[Shelf]:
        """Changes the shelves to those of the folder; returns those that are gone."""
        before, self._in_folder = self._in_folder, frozenset(homes)
        gone = []
        for name in sorted(homes.keys() - before):
            source = self._source_of(homes[name])
            if name in self.shelves:
                self.shelves[name].replace_source(source)
            else:
                self.shelves[name] = Shelf(name, source, self.threads, wanted=True)
        for name in sorted(before - homes.keys()):
            if name in self._built_in:
                self.shelves[name].replace_source(self._built_in[name])
            else:
                gone.append(self.shelves.pop(name))
        return gone


def _homes(folder: Path) -> dict[str, Path]:
    return {told_name(home): home for home in model_folders(folder)}
