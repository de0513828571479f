"""One model of the repository: its versions that are served, and how they change."""

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from model_svc.ports import Model
from model_svc.repository.interface import interface_changed
from model_svc.repository.load_threads import LoadThreads
from model_svc.repository.opening import open_version
from model_svc.repository.served import Lent, ServedModel
from model_svc.repository.sources import Found, Source, TextUse
from model_svc.sessions.errors import ModelLoadError
from stepwire.flights import Flight, Flights

_logger = logging.getLogger(__name__)

_NOT_ASKED_FOR: Final = "it was not asked for"
_UNLOADED: Final = "it was unloaded"
_KEPT_BACK: Final = "it is kept back, since another version could not be loaded"

# How long runs may take when everything is closed, before they are ended.
_CLOSE_SECONDS: Final = 1.0


class State(StrEnum):
    """How far a version is."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the repository's index.

    Attributes:
        model: Name of the model.
        version: The version; empty if none is known.
        state: How far it is.
        reason: Why it is not available, could last not be reloaded, or does not run where it
            was to run.
    """

    model: str
    version: str
    state: State
    reason: str = ""


class Shelf:
    """The versions of one model. To be used from one event loop.

    Loading is all or nothing: if a version fails, what is served stays. Only when nothing
    is served are the versions taken that did load.
    """

    def __init__(
        self, name: str, source: Source, threads: LoadThreads, *, wanted: bool = False
    ) -> None:
        """Loads nothing yet.

        Args:
            name: Name of the model.
            source: Where its versions come from.
            threads: Where they are looked for and loaded.
            wanted: Whether `refresh` loads it although nobody asked for it.
        """
        self.name = name
        self.source = source
        self._threads = threads
        self._text_uses = Flights[Flight[TextUse | None]]()
        self._served: dict[str, Lent] = {}
        self._marks: dict[str, str] = {}
        self._loading: frozenset[str] = frozenset()
        self._leaving: dict[asyncio.Task[None], tuple[str, Model]] = {}
        self._faults: dict[str, str] = {"": _NOT_ASKED_FOR}
        self._wanted = wanted
        self._removed = False
        self._tried: Mapping[str, str] | str | None = None
        self._load_task: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def served(self) -> Mapping[str, Lent]:
        """The versions that can be used."""
        return self._served

    @property
    def latest(self) -> Lent | None:
        """The highest version; None if there is none."""
        return self._served[max(self._served, key=int)] if self._served else None

    @property
    def fault(self) -> str:
        """Why versions are not served, or could last not be reloaded; empty if all is well."""
        return "; ".join(self._faults.values())

    @property
    def failed(self) -> bool:
        """Whether loading it was tried last, and failed."""
        return self._tried is not None and bool(self._faults)

    @property
    def wanted(self) -> bool:
        """Whether it is to be served without being asked for."""
        return self._wanted

    def replace_source(self, source: Source) -> None:
        """Has its versions come from elsewhere, from the next load on."""
        self.source, self._wanted = source, True

    def entries(self) -> Iterator[Entry]:
        """Its lines of the index, by version."""
        leaving = {version for version, _ in self._leaving.values()} - self._served.keys()
        known = {*self._served, *self._loading, *leaving, *(self._faults.keys() - {""})}
        general = self._faults.get("", "")
        for version in sorted(known, key=int):
            state = self._state(version)
            reason = "" if state is State.LOADING else self._faults.get(version, general)
            if not reason and version in self._served:
                reason = self._served[version].served.model.fallback
            yield Entry(self.name, version, state, reason)
        if not known:
            yield Entry(self.name, "", State.UNAVAILABLE, general)

    async def text_use(self) -> TextUse | None:
        """Returns what the model does with texts, by its files.

        None for nothing, or if that cannot be told, since they cannot be read.
        """

        def begin() -> Flight[TextUse | None]:
            return Flight(self._find_text_use(), name=f"look at {self.name}")

        with self._text_uses.join(None, begin) as (flight, _):
            return await asyncio.shield(flight.task)

    async def load(self) -> None:
        """Loads the versions that are there and new or changed, and drops those that are gone.

        Raises:
            ModelLoadError: One cannot be loaded.
        """
        async with self._one_at_a_time:
            self._wanted = True
            await self._load_unless_unloaded()

    async def refresh(self) -> None:
        """As `load`, but only if it is wanted, and something changed since the last try.

        Raises:
            ModelLoadError: A version cannot be loaded.
        """
        if not self._wanted:
            return
        try:
            found = await self._look(self.source)
        except ModelLoadError as error:
            if self._tried == str(error):
                return
        else:
            if self._tried == found.versions:
                return
        async with self._one_at_a_time:
            # It may have been unloaded meanwhile.
            if self._wanted:
                await self._load_unless_unloaded()

    async def unload(self) -> None:
        """Takes all versions out of service; they are closed once nobody uses them.

        What is being loaded is given up.
        """
        if self._load_task is not None:
            self._load_task.cancel()
        async with self._one_at_a_time:
            for version in list(self._served):
                self._retire(version)
            self._wanted, self._tried, self._faults = False, None, {"": _UNLOADED}

    async def remove(self) -> None:
        """As `unload`, for good: nothing is loaded any more."""
        self._removed = True
        await self.unload()

    async def close(self) -> None:
        """As `unload`, and waits until all versions are closed.

        Runs that take long are ended: those who asked for them had their time.
        """
        await self.unload()
        if not self._leaving:
            return
        _, left = await asyncio.wait(self._leaving, timeout=_CLOSE_SECONDS)
        if left:
            for task in left:
                _, model = self._leaving[task]
                model.interrupt()
            await asyncio.wait(left)

    async def _load_unless_unloaded(self) -> None:
        task = self._load_task = asyncio.create_task(self._load(), name=f"load {self.name}")
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            self._load_task = None
        if task.cancelled():
            raise ModelLoadError(f"model {self.name} was unloaded meanwhile")
        task.result()

    async def _load(self) -> None:
        if self._removed:
            # Whoever asked for it found it before; another may lie in its place by now.
            raise ModelLoadError(f"model {self.name} is gone")
        # It may be replaced meanwhile.
        source = self.source
        try:
            found = await self._look(source)
        except ModelLoadError as error:
            self._tried = str(error)
            self._faults = {"": str(error)}
            raise
        self._tried = found.versions
        await self._change_to(found, source)

    async def _look(self, source: Source) -> Found:
        try:
            doing = f"looking at model {self.name}"
            return await self._threads.run(self.name, doing, source.look)
        except ModelLoadError:
            raise
        except Exception as error:
            # Whatever it is, the other models go on.
            _logger.exception("looking at a model failed", extra={"model": self.name})
            raise ModelLoadError(f"model {self.name}: {error}") from error

    async def _find_text_use(self) -> TextUse | None:
        doing = f"looking at model {self.name}"
        try:
            return await self._threads.run(self.name, doing, self.source.text_use)
        except ModelLoadError:
            return None

    async def _change_to(self, found: Found, source: Source) -> None:
        wanted = {
            version: mark
            for version, mark in found.versions.items()
            if self._marks.get(version) != mark
        }
        self._loading = frozenset(wanted)
        opened: dict[str, ServedModel] = {}
        faults: dict[str, str] = {}
        try:
            for version in wanted:
                try:
                    opened[version] = await self._open(found, version, source)
                except ModelLoadError as error:
                    faults[version] = str(error)
            if faults and self._served:
                self._faults = faults | dict.fromkeys(opened, _KEPT_BACK)
                await _close_all(opened)
            else:
                self._faults = faults
                self._publish(found, opened)
        except BaseException:
            await _close_all(opened)
            raise
        finally:
            self._loading = frozenset()
        if faults:
            raise ModelLoadError("; ".join(faults.values()))

    async def _open(self, found: Found, version: str, source: Source) -> ServedModel:
        served = await open_version(
            source,
            found,
            version,
            threads=self._threads,
            discard=lambda model: self._close(model, model.close(), version),
        )
        before = self._served.get(version)
        if (
            before is not None
            and not found.parameters.allow_interface_change
            and (
                interface_changed(before.served.inputs, served.inputs)
                or interface_changed(before.served.outputs, served.outputs)
            )
        ):
            await served.model.close()
            raise ModelLoadError(
                f"model {self.name}: version {version} has other inputs or outputs than before: "
                "give it another number, or set the parameter allow_interface_change"
            )
        return served

    def _publish(self, found: Found, opened: Mapping[str, ServedModel]) -> None:
        for version in [*opened, *(self._served.keys() - found.versions.keys())]:
            if version in self._served:
                self._retire(version)
        for version, served in opened.items():
            self._served[version] = Lent(served)
            self._marks[version] = found.versions[version]
            _logger.info(
                "a model is ready",
                extra={"model": self.name, "version": version, "device": served.model.device},
            )

    def _retire(self, version: str) -> None:
        lent = self._served.pop(version)
        self._marks.pop(version, None)
        self._close(lent.served.model, lent.close(), version)

    def _close(self, model: Model, closing: Coroutine[Any, Any, None], version: str) -> None:
        task = asyncio.create_task(closing, name=f"close {self.name} {version}")
        self._leaving[task] = version, model
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        version, _ = self._leaving.pop(task)
        if not task.cancelled() and (error := task.exception()):
            _logger.error(
                "closing a model failed",
                extra={"model": self.name, "version": version},
                exc_info=error,
            )

    def _state(self, version: str) -> State:
        if version in self._served:
            return State.READY
        if version in self._loading:
            return State.LOADING
        leaving = any(version == each for each, _ in self._leaving.values())
        return State.UNLOADING if leaving else State.UNAVAILABLE


async def _close_all(opened: Mapping[str, ServedModel]) -> None:
    for served in opened.values():
        await served.model.close()
