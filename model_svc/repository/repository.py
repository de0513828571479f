"""Which models are served, under which names and versions, and how that changes."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from model_svc.generation.ports import TextGenerator
from model_svc.ports import TextModel
from model_svc.repository.catalogue import Catalogue
from model_svc.repository.served import Lent, ServedModel
from model_svc.repository.shelf import Entry, Shelf
from model_svc.repository.text_models import TextModelEntry, text_models
from model_svc.sessions.errors import ModelLoadError
from stepwire.errors import Reason, StepwireError, field_invalid

_logger = logging.getLogger(__name__)

# Models that are loaded at the same time, unless calls ask for more; each takes a core
# while it is.
_LOADED_AT_ONCE: Final = 2

# How long what is being loaded is waited for when everything is closed.
_CLOSE_SECONDS: Final = 1.0

# Models that an error names at most.
_NAMED: Final = 20


class Repository:
    """The models that are served. To be used from one event loop."""

    def __init__(self, catalogue: Catalogue, *, default_model: str) -> None:
        """Loads nothing yet.

        Args:
            catalogue: The models that there are.
            default_model: Name of the model for texts that no model is named for. The
                service does not start without it.
        """
        self._catalogue = catalogue
        self._shelves = catalogue.shelves
        self._default_model = default_model
        self._changes: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_LOADED_AT_ONCE)

    async def start(self, also: Iterable[str] = ()) -> None:
        """Loads the default model and those of the folder, as far as they can be loaded.

        Args:
            also: Further built-in models.

        Raises:
            ModelLoadError: The folder cannot be read, or the default model not be loaded.
        """
        await self._catalogue.look()
        default = self._shelves.get(self._default_model)
        if default is None:
            raise ModelLoadError(f"the default model {self._default_model} does not exist")
        first = self._begin(self._load_one(default))
        others = self._begin(
            self._load_all(
                shelf
                for name, shelf in sorted(self._shelves.items())
                if shelf is not default and (shelf.wanted or name in also)
            )
        )
        await first
        # Any number may hang, and those that do are loaded two at a time.
        await asyncio.wait({others}, timeout=self._catalogue.threads.timeout_seconds)
        if default.latest is None:
            raise ModelLoadError(default.fault)
        if default.latest.served.text is None:
            raise ModelLoadError(
                f"the default model {default.name} does not read texts: put a tokenizer.json "
                "beside it, or make another the default"
            )
        _logger.info("models are loaded", extra={"models": self.names})

    @property
    def names(self) -> list[str]:
        """Names of the models that are served."""
        return sorted(name for name, shelf in self._shelves.items() if shelf.served)

    @property
    def hanging(self) -> Mapping[str, int]:
        """How many threads of a model take longer than they may, by its name."""
        return self._catalogue.threads.hanging

    @property
    def all_ready(self) -> bool:
        """Whether no model failed when it was loaded last."""
        return not any(shelf.failed for shelf in self._shelves.values())

    def use(self, name: str, version: str = "") -> AbstractContextManager[ServedModel]:
        """Gives a model for a block; without a version, its latest.

        Raises:
            StepwireError: MODEL_NOT_FOUND or MODEL_NOT_READY.
        """
        return self._find(name, version)

    @contextmanager
    def embedder(self, name: str) -> Iterator[tuple[str, TextModel]]:
        """Gives the name of a model that reads texts, and it; the default one for no name.

        Raises:
            StepwireError: MODEL_NOT_FOUND, MODEL_NOT_READY, or MODEL_INPUT_INVALID if the
                model reads no texts.
        """
        with self._find_embedder(name or self._default_model) as served:
            assert served.text is not None
            yield served.name, served.text

    @contextmanager
    def generator(self, name: str) -> Iterator[tuple[str, TextGenerator]]:
        """Gives the name of a model that writes texts, and it; for no name, the only one.

        Raises:
            StepwireError: MODEL_NOT_FOUND, MODEL_NOT_READY, FIELD_INVALID if no name is given
                and there is not exactly one, or MODEL_INPUT_INVALID if the model writes no texts.
        """
        with self.use(name or self._only_generator()) as served:
            if served.generator is None:
                raise StepwireError(
                    Reason.MODEL_INPUT_INVALID,
                    f"model {name!r} does not write texts",
                    metadata={"model": name},
                )
            yield served.name, served.generator

    async def text_models(self) -> list[TextModelEntry]:
        """Returns the models that read or write texts, ready or not, by name."""
        return await text_models(self._shelves, default=self._default_model)

    def versions(self, name: str) -> list[str]:
        """Returns the versions of a model that are served, the oldest first.

        Raises:
            StepwireError: MODEL_NOT_FOUND.
        """
        return sorted(self._shelf(name).served, key=int)

    def is_ready(self, name: str, version: str) -> bool:
        """Tells whether a version, or without one any, is served.

        Raises:
            StepwireError: MODEL_NOT_FOUND.
        """
        try:
            self._find(name, version)
        except StepwireError as error:
            if error.reason is Reason.MODEL_NOT_READY:
                return False
            raise
        return True

    def served(self, name: str = "", version: str = "") -> list[ServedModel]:
        """Returns what is served: all of it, one model, or one version.

        Raises:
            StepwireError: MODEL_NOT_FOUND or MODEL_NOT_READY.
        """
        if version:
            return [self._find(name, version).served]
        if name:
            self._find(name, "")
        return [
            self._shelves[each].served[known].served
            for each in ([name] if name else sorted(self._shelves))
            for known in self.versions(each)
        ]

    def index(self) -> list[Entry]:
        """Returns all models and their versions, by name and version."""
        return [entry for name in sorted(self._shelves) for entry in self._shelves[name].entries()]

    async def load(self, name: str) -> None:
        """Loads a model, or what has changed of it, even if the caller goes away.

        Raises:
            StepwireError: MODEL_NOT_FOUND or MODEL_LOAD_FAILED.
        """
        await self._to_the_end(self._load(name))

    async def unload(self, name: str) -> None:
        """Takes a model out of service; calls under way may end.

        Raises:
            StepwireError: MODEL_NOT_FOUND.
        """
        await self._shelf(name).unload()

    async def refresh(self) -> None:
        """Follows the folder: new models, changed ones, and those that are gone.

        Raises:
            ModelLoadError: The folder cannot be read.
        """
        await self._catalogue.look()
        await self._load_all(list(self._shelves.values()), only_changed=True)

    async def close(self) -> None:
        """Takes all models out of service, and waits until all calls have ended.

        What is still being loaded is given a moment, and then left behind.
        """
        if self._changes:
            _, left = await asyncio.wait(self._changes, timeout=_CLOSE_SECONDS)
            for change in left:
                change.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        await asyncio.gather(*(shelf.close() for shelf in self._shelves.values()))

    def _find_embedder(self, name: str) -> Lent:
        """Finds a model that reads texts; an error names those that do."""
        try:
            lent = self._find(name, "")
            if lent.served.text is None:
                raise _fault(
                    Reason.MODEL_INPUT_INVALID, name, f"model {name!r} does not read texts"
                )
        except StepwireError as error:
            names = [
                each.name
                for _, each in sorted(self._shelves.items())
                if each.latest is not None and each.latest.served.text is not None
            ]
            told = ", ".join(names[:_NAMED]) or "none"
            if len(names) > _NAMED:
                told += ", …"
            raise _fault(
                error.reason, name, f"{error.message}; models that read texts: {told}"
            ) from error
        return lent

    def _only_generator(self) -> str:
        names = [
            name
            for name, shelf in sorted(self._shelves.items())
            if shelf.latest is not None and shelf.latest.served.generator is not None
        ]
        if len(names) != 1:
            known = ", ".join(names) or "none"
            raise field_invalid("model", f"must name a model that writes texts; served: {known}")
        return names[0]

    async def _load_all(self, shelves: Iterable[Shelf], *, only_changed: bool = False) -> None:
        await asyncio.gather(
            *(self._load_one(shelf, only_changed=only_changed) for shelf in shelves)
        )

    async def _load_one(self, shelf: Shelf, *, only_changed: bool = False) -> None:
        async with self._room:
            await _load_or_log(shelf, only_changed=only_changed)

    async def _load(self, name: str) -> None:
        try:
            await self._catalogue.look()
            await self._shelf(name).load()
        except ModelLoadError as error:
            raise _fault(Reason.MODEL_LOAD_FAILED, name, str(error)) from error

    async def _to_the_end(self, change: Coroutine[None, None, None]) -> None:
        await asyncio.shield(self._begin(change))

    def _begin(self, change: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return task

    def _shelf(self, name: str) -> Shelf:
        shelf = self._shelves.get(name)
        if shelf is None:
            raise _fault(Reason.MODEL_NOT_FOUND, name, f"no model {name!r} is served")
        return shelf

    def _find(self, name: str, version: str) -> Lent:
        shelf = self._shelf(name)
        lent = shelf.served.get(version) if version else shelf.latest
        if lent is not None:
            return lent
        for entry in shelf.entries():
            if version in {"", entry.version}:
                raise _fault(
                    Reason.MODEL_NOT_READY,
                    name,
                    f"model {name!r}{' ' + version if version else ''} is {entry.state}: "
                    f"{entry.reason}",
                )
        raise _fault(
            Reason.MODEL_NOT_FOUND,
            name,
            f"model {name!r} has no version {version!r}, only {', '.join(self.versions(name))}",
        )


async def _load_or_log(shelf: Shelf, *, only_changed: bool = False) -> None:
    try:
        await (shelf.refresh() if only_changed else shelf.load())
    except ModelLoadError as error:
        _logger.error(  # noqa: TRY400  (the text says all that there is to know)
            "a model could not be loaded", extra={"model": shelf.name, "error": str(error)}
        )


def _fault(reason: Reason, model: str, message: str) -> StepwireError:
    return StepwireError(reason, message, metadata={"model": model})
