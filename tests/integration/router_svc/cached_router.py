"""A router's caches around a maker of answers that does as a test tells it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import asyncpg
import grpc.aio

from router_svc.cache.app import wire
from router_svc.cache.front import CachedRouter
from router_svc.catalogue.holder import CatalogueHolder, Snapshot
from router_svc.generate.ports import Answering
from router_svc.generate.records import Answer, Completion, FinishReason, Piece, UsageEntry
from router_svc.generate.usage import Usage
from router_svc.requests.records import CacheControl, CacheMode, Request
from router_svc.settings import RouterSettings
from stepwire.api.router.v1.cache_service_pb2_grpc import CacheServiceStub
from stepwire.ids import uuid7
from stepwire.rpc import Server, open_channel
from tests.unit.router_svc.router_builders import a_catalogue, a_model, a_request, decide_on

ABLE = ["tools", "json"]
CATALOGUE = a_catalogue(
    a_model("small", quality=0.9, capabilities=ABLE), a_model("large", capabilities=ABLE)
)
COST = 120
# Nothing here is about how long a part takes.
PATIENT = 60.0


class Maker:
    """Makes a new answer each time: `one 1`, `one 2`, …"""

    def __init__(self) -> None:
        self.name = "one"
        self.made = 0
        self.given_up = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[Exception] = []
        self.change: dict[str, Any] = {}
        self.finish = FinishReason.STOP

    async def generate(self, request: Request, *, deadline: float | None) -> Answer:
        self.made += 1
        text = f"{self.name} {self.made}"
        error = self.errors.pop(0) if self.errors else None
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if error is not None:
            raise error
        return self._answer(request, text)

    async def stream(self, request: Request, *, deadline: float | None) -> AsyncGenerator[Piece]:
        yield Piece(text=f"{self.name} ")
        answer = await self.generate(request, deadline=deadline)
        yield Piece(text=answer.completion.text.removeprefix(f"{self.name} "))
        yield Piece(end=answer)

    def _answer(self, request: Request, text: str) -> Answer:
        usage = Usage(100, 20)
        decision = decide_on(request, CATALOGUE, decision_id=uuid7())
        answer = Answer(
            completion=Completion(text, usage=usage, finish=self.finish, model="small-2026-01"),
            usage=usage,
            cost_micro_usd=COST,
            decision=decision,
            model=decision.chosen.model,
        )
        return replace(answer, **self.change)


@dataclass
class Book:
    """A `UsageRecorder`."""

    entries: list[UsageEntry] = field(default_factory=list)

    def record(self, entry: UsageEntry) -> None:
        self.entries.append(entry)


@dataclass
class Instance:
    """One instance of the router, as far as its caches go."""

    maker: Maker
    router: Answering
    book: Book
    cache: Any

    async def ask(self, request: Request, *, deadline: float | None = None) -> Answer:
        return await self.router.generate(request, deadline=deadline)

    async def written(self) -> None:
        """Waits until all that was kept can be found by others, and by its meaning."""
        levels = cast("CachedRouter", self.router)._levels
        await levels.behind.backlog.flush()
        if levels.answers._between is not None:
            await levels.answers._between.backlog.flush()

    async def stream(self, request: Request) -> tuple[list[str], Answer]:
        """Returns the texts of a stream, and its end."""
        pieces = [piece async for piece in self.router.stream(request, deadline=None)]
        assert pieces[-1].end is not None
        return [piece.text for piece in pieces[:-1]], pieces[-1].end


class _Unchanging:
    def read(self) -> Snapshot:
        raise AssertionError("is not read")


@asynccontextmanager
async def instance(
    pool: asyncpg.Pool | None, *, model_target: str = "127.0.0.1:1", **settings: Any
) -> AsyncIterator[Instance]:
    given = {"port": 0, "vector_target": "", "cache_deadline_seconds": PATIENT, **settings}
    wanted = RouterSettings(**given)
    snapshot = Snapshot(CATALOGUE, {}, "v1")
    holder = CatalogueHolder(_Unchanging(), snapshot, noticed=lambda _: None)
    maker, book = Maker(), Book()
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(open_channel(model_target, retry_unavailable=False))
        caching = await wire(maker, holder, pool, model, usage=book, settings=wanted, stack=stack)
        server = await stack.enter_async_context(Server("router", wanted, caching.services))
        channel: grpc.aio.Channel = await stack.enter_async_context(open_channel(server.address))
        yield Instance(maker, caching.router, book, CacheServiceStub(channel))


def exact(text: str = "What is this?", **fields: Any) -> Request:
    control = {
        name: fields.pop(name) for name in ("max_age_seconds", "tags", "scope") if name in fields
    }
    return a_request(text, cache=CacheControl(CacheMode.EXACT, **control), **fields)


def semantic(text: str, scope: str = "", **fields: Any) -> Request:
    return a_request(text, cache=CacheControl(CacheMode.SEMANTIC, scope=scope), **fields)
