"""Memories: kept, recalled, listed, forgotten."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from stepwire.errors import Reason, StepwireError
from stepwire.page_tokens import PageTokens
from vector_svc.collections.registry import Collections
from vector_svc.embedding.ports import Embedder
from vector_svc.engine.fields import check_unique, page_size_of
from vector_svc.engine.records import (
    Collection,
    CollectionConfig,
    FieldType,
    IndexOptions,
    Metric,
    PointDraft,
    StoredPoint,
    UpsertMode,
)
from vector_svc.filters.records import Node
from vector_svc.memories.payloads import TIME, id_of, memory_of, payload_of
from vector_svc.memories.ports import MemoryStore
from vector_svc.memories.ranking import ranked
from vector_svc.memories.records import (
    Memory,
    MemoryDraft,
    MemorySpace,
    Place,
    Question,
    Recollection,
    Remembered,
    Scope,
)
from vector_svc.memories.spaces import SPACE, point_id, within
from vector_svc.points.points import Points
from vector_svc.points.records import Selection
from vector_svc.search.records import Search
from vector_svc.search.search import Searches

R = TypeVar("R")

# Recency and importance rank so many times as many as wanted, and so many at least.
POOL: Final = 4
LEAST_POOL: Final = 100

FIELDS: Final = {SPACE: FieldType.TEXT, TIME: FieldType.TIMESTAMP}

_MEMORIES: Final = PageTokens("ListMemories")
_SPACES: Final = PageTokens("ListMemorySpaces")


class Memories:
    """The memories of all tenants.

    Every method raises StepwireError: FIELD_INVALID; NOT_OF_MEMORIES, if the collection
    holds something else. Where a collection was never made, nothing is remembered.

    Args:
        store: Lists memories.
        points: Where they are kept.
        searches: Finds them.
        collections: Where collections are found and made.
        embedder: Tells how long the vectors of a new collection are.
        model: Embedding model of new collections.
        index: What the index of new collections is to be.
        payload_max_bytes: Largest memory.
        clock: Gives the time.
    """

    def __init__(
        self,
        store: MemoryStore,
        *,
        points: Points,
        searches: Searches,
        collections: Collections,
        embedder: Embedder,
        model: str,
        index: IndexOptions,
        payload_max_bytes: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._points = points
        self._searches = searches
        self._collections = collections
        self._embedder = embedder
        self._model = model
        self._index = index
        self._payload_max_bytes = payload_max_bytes
        self._clock = clock

    async def remember(
        self, tenant_id: str, place: Place, drafts: Sequence[MemoryDraft], ttl: timedelta | None
    ) -> Remembered:
        """Keep memories, all or none; make the collection unless it is there.

        Raises:
            StepwireError: PAYLOAD_TOO_LARGE, and what the model service says.
        """
        now = self._clock()
        ids = [id_of(draft) for draft in drafts]
        check_unique(ids, field="memories", member="")
        points = [
            PointDraft(
                id=point_id(place.space, memory_id),
                vector=b"",
                text=draft.text,
                payload=payload_of(
                    place.space,
                    draft,
                    now=now,
                    field=f"memories[{index}]",
                    limit_bytes=self._payload_max_bytes,
                ),
                expires_at=None if ttl is None else now + ttl,
            )
            for index, (memory_id, draft) in enumerate(zip(ids, drafts, strict=True))
        ]
        if await self._known(tenant_id, place.collection, _nothing) is None:
            await self._make(tenant_id, place.collection)
        written = await self._points.upsert(tenant_id, place.collection, points, UpsertMode.UPSERT)
        return Remembered(ids, written.inserted, written.updated)

    async def recall(self, tenant_id: str, place: Place, question: Question) -> Recollection:
        """Find the memories that matter most, best first.

        Raises:
            StepwireError: what the model service says.
        """
        if await self._known(tenant_id, place.collection, _nothing) is None:
            return Recollection((), None)
        search = Search(
            limit=max(POOL * question.limit, LEAST_POOL),
            text=question.text,
            filter=within(place.space, place.scope, question.filter),
            score_threshold=question.min_relevance,
        )
        results = await self._searches.search(tenant_id, place.collection, search)
        recalled = ranked(results.found, question.weights, now=self._clock(), limit=question.limit)
        return Recollection(recalled, results.report)

    async def latest(
        self,
        tenant_id: str,
        place: Place,
        filter_: Node | None,
        *,
        page_size: int,
        page_token: str,
    ) -> tuple[list[Memory], str]:
        """Return a page of memories, the latest first, and the token of the next ("" if none).

        Raises:
            StepwireError: PAGE_TOKEN_INVALID.
        """
        size = page_size_of(page_size)
        before = _position(_MEMORIES.read(tenant_id, page_token))

        async def read(collection: Collection) -> list[tuple[StoredPoint, datetime]]:
            node = within(place.space, place.scope, filter_)
            return await self._store.latest(collection, node, before=before, limit=size + 1)

        found = await self._known(tenant_id, place.collection, read) or []
        memories = [memory_of(point) for point, _ in found[:size]]
        if len(found) <= size:
            return memories, ""
        last, time = found[size - 1]
        return memories, _MEMORIES.make(tenant_id, f"{time.isoformat()} {last.id}")

    async def spaces(
        self, tenant_id: str, place: Place, *, page_size: int, page_token: str
    ) -> tuple[list[MemorySpace], str]:
        """Return a page of spaces by name, and the token of the next ("" if none).

        Raises:
            StepwireError: PAGE_TOKEN_INVALID.
        """
        size = page_size_of(page_size)
        # Behind a mark, since the tenant's own space has no name.
        token = _SPACES.read(tenant_id, page_token)
        after = token[1:] if token else None

        async def read(collection: Collection) -> list[MemorySpace]:
            node = within(place.space, Scope.WITHIN)
            return await self._store.spaces(collection, node, after=after, limit=size + 1)

        found = await self._known(tenant_id, place.collection, read) or []
        if len(found) <= size:
            return found, ""
        return found[:size], _SPACES.make(tenant_id, f"/{found[size - 1].space}")

    async def forget(
        self, tenant_id: str, place: Place, ids: Sequence[str] | None, filter_: Node | None
    ) -> int:
        """Delete memories; return the number of those that were there.

        Args:
            tenant_id: Whose they are.
            place: Where they are.
            ids: Their ids; None for those of the filter.
            filter_: Which memories; None for all.
        """
        if await self._known(tenant_id, place.collection, _nothing) is None:
            return 0
        if ids is None:
            selection = Selection(filter=within(place.space, place.scope, filter_))
        else:
            selection = Selection(ids=[point_id(place.space, each) for each in ids])
        return await self._points.delete(tenant_id, place.collection, selection)

    async def _known(
        self, tenant_id: str, name: str, work: Callable[[Collection], Awaitable[R]]
    ) -> R | None:
        """Do `work` with a collection of memories; None if there is no such collection."""

        async def checked(collection: Collection) -> R:
            _check(collection)
            return await work(collection)

        try:
            return await self._collections.use(tenant_id, name, checked)
        except StepwireError as error:
            if error.reason is Reason.COLLECTION_NOT_FOUND:
                return None
            raise

    async def _make(self, tenant_id: str, name: str) -> None:
        vectors = await self._embedder.embed(self._model, [name])
        config = CollectionConfig(
            name=name,
            dimension=vectors.shape[1],
            metric=Metric.COSINE,
            model=self._model,
            index=self._index,
            fields=FIELDS,
        )
        await self._collections.create(tenant_id, config)


async def _nothing(_: Collection) -> bool:
    return True


def _check(collection: Collection) -> None:
    config = collection.config
    if config.model and all(config.fields.get(name) is type_ for name, type_ in FIELDS.items()):
        return
    raise StepwireError(
        Reason.NOT_OF_MEMORIES,
        f"collection {config.name!r} is not one of memories: that has a model and the fields "
        "`space`, a text, and `time`, a timestamp",
        metadata={"collection": config.name},
    )


def _position(token: str) -> tuple[datetime, str] | None:
    if not token:
        return None
    time, _, last = token.partition(" ")
    return datetime.fromisoformat(time), last
