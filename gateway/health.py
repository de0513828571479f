"""The health of the whole mesh, told by one place."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping

from gateway.ports import Owner, Status

WHOLE = ""
"""The name that stands for all services together."""


class UnknownServiceError(Exception):
    """No service of this name is public."""


class StoppingError(Exception):
    """The companion stops, and with it what it was asked to watch."""


class MeshHealth:
    """Answers for every public service by asking the process that owns it."""

    def __init__(self, owners: Mapping[str, Owner], *, own: Collection[str]) -> None:
        """Asks nobody yet.

        Args:
            owners: Who knows the health of each service, by the service's name.
            own: Names of the services that this very process answers.
        """
        self._owners = owners
        self._own = own
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends all watches; this process's own services are not serving from now on."""
        self._stopping.set()

    async def check(self, service: str) -> Status:
        """Returns the health of a service, or of all of them together.

        Raises:
            UnknownServiceError: There is no such public service.
        """
        names = self._members(service)
        return _together(await asyncio.gather(*(self._check_one(name) for name in names)))

    async def check_each(self) -> dict[str, Status]:
        """Returns the health of every service by name, and of all together."""
        names = self._members(WHOLE)
        found = await asyncio.gather(*(self._check_one(name) for name in names))
        return {WHOLE: _together(found), **dict(zip(names, found, strict=True))}

    async def watch(self, service: str) -> AsyncGenerator[Status, None]:
        """Yields the health of a service, or of all together: now, and when it changes.

        Raises:
            UnknownServiceError: There is no such public service.
            StoppingError: This process stops.
        """
        names = self._members(service)
        latest: dict[str, Status] = {}
        news = asyncio.Event()
        watches = [asyncio.create_task(self._follow(name, latest, news)) for name in names]
        stopping = asyncio.create_task(self._stopping.wait())
        stopping.add_done_callback(lambda _: news.set())
        try:
            last: Status | None = None
            while True:
                await news.wait()
                news.clear()
                if self._stopping.is_set():
                    raise StoppingError
                _raise_failure(watches)
                if len(latest) == len(names) and _together(latest.values()) is not last:
                    last = _together(latest.values())
                    yield last
        finally:
            for task in (*watches, stopping):
                task.cancel()
            await asyncio.gather(*watches, stopping, return_exceptions=True)

    def _members(self, service: str) -> tuple[str, ...]:
        everything = (*self._owners, *self._own)
        if service == WHOLE:
            return everything
        if service not in everything:
            raise UnknownServiceError(service)
        return (service,)

    async def _check_one(self, service: str) -> Status:
        if service in self._own:
            return Status.NOT_SERVING if self._stopping.is_set() else Status.SERVING
        return await self._owners[service].check(service)

    async def _follow(self, service: str, latest: dict[str, Status], news: asyncio.Event) -> None:
        try:
            if service in self._own:
                latest[service] = Status.SERVING
                return
            async for status in self._owners[service].watch(service):
                latest[service] = status
                news.set()
        finally:
            news.set()


def _together(statuses: Collection[Status]) -> Status:
    good = all(status is Status.SERVING for status in statuses)
    return Status.SERVING if good else Status.NOT_SERVING


def _raise_failure(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
