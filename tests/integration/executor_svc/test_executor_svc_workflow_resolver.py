"""From a workflow's name to the graph of a new task, over a real record."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import asyncpg
import pytest

from executor_svc.graphs.cache import GraphCache
from executor_svc.graphs.compile import GraphLimits, compile_graph
from executor_svc.workflows.records import Defaults, Draft, Version, VersionKey, VersionState
from executor_svc.workflows.registry import Workflows
from executor_svc.workflows.resolver import Resolved, Resolver
from executor_svc.workflows.store import PostgresWorkflowStore
from stepwire.db import migrate, open_pool
from stepwire.errors import Reason, StepwireError
from tests.integration.executor_svc.executor_mesh import chain

LIMITS = GraphLimits(max_steps=10, max_bytes=10_000, queues=None)
TRUST = timedelta(seconds=1)
TENANT = "tenant"


class CountingStore(PostgresWorkflowStore):
    """Counts what is asked of the record; a gate can hold answers back, and `meanwhile` happens
    once after the next look."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def find(self, key: VersionKey) -> Version | None:
        self.asked.append("find")
        if self.gate is not None:
            await self.gate.wait()
        found = await super().find(key)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found

    async def use(self, key: VersionKey) -> Version | None:
        self.asked.append("use")
        return await super().use(key)

    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        self.asked.append("read_graph")
        return await super().read_graph(graph_hash)


@dataclass
class Process:
    """One executor process: its store, its resolver, its clock."""

    pool: asyncpg.Pool
    now: float = 0.0
    store: CountingStore = field(init=False)
    resolver: Resolver = field(init=False)
    workflows: Workflows = field(init=False)

    def __post_init__(self) -> None:
        self.store = CountingStore(self.pool)
        self.resolver = Resolver(self.store, GraphCache(), trust=TRUST, clock=lambda: self.now)
        self.workflows = Workflows(self.store, self.resolver)

    async def register(self, length: int, version: str = "", tenant: str = TENANT) -> Version:
        graph = compile_graph(chain(length), limits=LIMITS)
        draft = Draft(graph.graph_hash, Defaults({"steps": str(length)}, length))
        return await self.workflows.register(VersionKey(tenant, "flow", version), draft, graph)

    async def resolve(self, version: str = "", tenant: str = TENANT) -> Resolved:
        return await self.resolver.resolve(tenant, "flow", version)

    async def set_state(self, version: str, state: VersionState) -> None:
        await self.workflows.set_state(VersionKey(TENANT, "flow", version), state)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(database_url, application_name="test") as pool:
        await migrate(pool, package="executor_svc", schema="executor")
        yield pool


@pytest.fixture
def process(pool: asyncpg.Pool) -> Process:
    return Process(pool)


async def test_a_name_gives_the_graph_the_version_and_the_defaults(process):
    await process.register(1)
    await process.register(2)
    newest, first = await process.resolve(), await process.resolve("1")
    assert (newest.name, newest.version, len(newest.graph.steps)) == ("flow", "2", 2)
    assert newest.defaults == Defaults({"steps": "2"}, 2)
    assert (first.version, len(first.graph.steps)) == ("1", 1)


async def test_the_first_use_is_recorded_once(process):
    await process.register(1)
    await process.resolve()
    first = await process.store.find(VersionKey(TENANT, "flow", "1"))
    assert first is not None
    assert first.used_at is not None
    process.now += 60
    await process.resolve("1")
    assert await process.store.find(VersionKey(TENANT, "flow", "1")) == first
    assert process.store.asked.count("use") == 1


async def test_a_preview_records_nothing(process):
    await process.register(1)
    assert (await process.resolver.preview(TENANT, "flow")).version == "1"
    assert "use" not in process.store.asked
    await process.register(2, "1")
    assert len((await process.resolver.preview(TENANT, "flow")).graph.steps) == 2


async def test_what_is_known_is_answered_from_memory(process):
    await process.register(1)
    await process.resolve()
    process.store.asked.clear()
    for _ in range(100):
        await process.resolve()
    assert process.store.asked == []
    process.now += TRUST.total_seconds()
    await process.resolve()
    # A graph that is known is not read again.
    assert process.store.asked == ["find"]


async def test_all_who_ask_meanwhile_share_one_look(process):
    await process.register(1)
    process.store.asked.clear()
    process.store.gate = asyncio.Event()
    waiting = [asyncio.create_task(process.resolve()) for _ in range(20)]
    await asyncio.sleep(0)
    # One of them goes away: the others must not notice.
    waiting[0].cancel()
    await asyncio.sleep(0)
    process.store.gate.set()
    resolved = await asyncio.gather(*waiting[1:])
    assert {each.version for each in resolved} == {"1"}
    assert waiting[0].cancelled()
    assert process.store.asked.count("find") == process.store.asked.count("use") == 1


async def test_a_change_is_seen_at_once_here_and_soon_elsewhere(pool, process):
    elsewhere = Process(pool)
    await process.register(1)
    assert (await elsewhere.resolve()).version == (await process.resolve()).version == "1"
    await process.register(2)
    assert (await process.resolve()).version == "2"
    assert (await elsewhere.resolve()).version == "1"
    elsewhere.now += TRUST.total_seconds()
    assert (await elsewhere.resolve()).version == "2"


async def test_a_look_that_began_before_a_change_is_not_kept(process):
    await process.register(1)
    process.store.asked.clear()
    process.store.gate = asyncio.Event()
    early = asyncio.create_task(process.resolve())
    await asyncio.sleep(0)
    process.resolver.forget(VersionKey(TENANT, "flow", "1"))
    late = asyncio.create_task(process.resolve())
    await asyncio.sleep(0)
    process.store.gate.set()
    await asyncio.gather(early, late)
    assert process.store.asked.count("find") == 2


async def test_a_deprecated_version_takes_no_new_tasks(process):
    await process.register(1)
    await process.register(2)
    await process.resolve("2")
    await process.set_state("2", VersionState.DEPRECATED)
    with pytest.raises(StepwireError) as caught:
        await process.resolve("2")
    assert caught.value.reason is Reason.WORKFLOW_VERSION_DEPRECATED
    assert caught.value.metadata == {"workflow": "flow", "version": "2"}
    assert (await process.resolve()).version == "1"
    await process.set_state("1", VersionState.DEPRECATED)
    with pytest.raises(StepwireError) as caught:
        await process.resolve()
    assert caught.value.reason is Reason.WORKFLOW_VERSION_DEPRECATED
    await process.set_state("2", VersionState.ACTIVE)
    assert (await process.resolve()).version == "2"


async def test_what_was_not_there_is_looked_for_again(process):
    for version in ("", "1"):
        with pytest.raises(StepwireError) as caught:
            await process.resolve(version)
        assert caught.value.reason is Reason.WORKFLOW_NOT_FOUND
    await process.register(1)
    assert (await process.resolve()).version == (await process.resolve("1")).version == "1"


async def test_tenants_have_workflows_of_their_own(process):
    await process.register(1)
    await process.register(2, tenant="other")
    assert len((await process.resolve()).graph.steps) == 1
    assert len((await process.resolve(tenant="other")).graph.steps) == 2


async def test_a_version_that_is_used_while_it_is_changed_stays_as_it_is(pool, process):
    elsewhere = Process(pool)
    await process.register(1, "1")
    process.store.meanwhile = elsewhere.resolve
    with pytest.raises(StepwireError) as caught:
        await process.register(2, "1")
    assert caught.value.reason is Reason.WORKFLOW_VERSION_EXISTS
    assert len((await process.resolve("1")).graph.steps) == 1


async def test_a_version_that_is_changed_while_it_is_used_first_is_used_as_changed(pool, process):
    elsewhere = Process(pool)
    await process.register(1, "1")
    process.store.meanwhile = lambda: elsewhere.register(2, "1")
    assert len((await process.resolve("1")).graph.steps) == 2


async def test_a_version_that_is_deleted_while_it_is_used_first(pool, process):
    elsewhere = Process(pool)
    await process.register(1, "1")
    await process.register(2, "2")
    process.store.meanwhile = lambda: elsewhere.workflows.delete(VersionKey(TENANT, "flow", "2"))
    assert (await process.resolve()).version == "1"


async def test_a_version_that_is_deprecated_while_it_is_used_first(pool, process):
    elsewhere = Process(pool)
    await process.register(1, "1")
    process.store.meanwhile = lambda: elsewhere.set_state("1", VersionState.DEPRECATED)
    with pytest.raises(StepwireError) as caught:
        await process.resolve("1")
    assert caught.value.reason is Reason.WORKFLOW_VERSION_DEPRECATED
    held = await process.store.find(VersionKey(TENANT, "flow", "1"))
    assert held is not None
    assert held.used_at is None


async def test_a_version_that_is_registered_meanwhile_is_not_registered_twice(pool, process):
    elsewhere = Process(pool)
    process.store.meanwhile = lambda: elsewhere.register(1)
    assert (await process.register(1)).key.version == "1"
    process.store.meanwhile = lambda: elsewhere.register(2)
    assert (await process.register(3)).key.version == "3"


async def test_use_and_change_at_once_agree_on_the_graph(pool):
    """What a task gets is what the version holds for ever after."""
    for round_ in range(20):
        one, other = Process(pool), Process(pool)
        tenant = f"tenant-{round_}"
        await one.register(1, "1", tenant)
        resolved, changed = await asyncio.gather(
            one.resolve("1", tenant), other.register(2, "1", tenant), return_exceptions=True
        )
        assert isinstance(resolved, Resolved)
        held = await one.store.find(VersionKey(tenant, "flow", "1"))
        assert held is not None
        assert held.draft.graph_hash == resolved.graph.graph_hash
        assert held.draft.defaults == resolved.defaults
        if isinstance(changed, BaseException):
            assert isinstance(changed, StepwireError)
            assert changed.reason is Reason.WORKFLOW_VERSION_EXISTS
            assert len(resolved.graph.steps) == 1


async def test_use_and_deletion_at_once(pool):
    """Either the version is gone and nobody got it, or it is used and stays."""
    for round_ in range(20):
        one, other = Process(pool), Process(pool)
        tenant = f"tenant-{round_}"
        key = VersionKey(tenant, "flow", "1")
        await one.register(1, "1", tenant)
        resolved, deleted = await asyncio.gather(
            one.resolve("1", tenant), other.workflows.delete(key), return_exceptions=True
        )
        held = await one.store.find(key)
        if held is None:
            assert deleted is None
            assert isinstance(resolved, StepwireError)
            assert resolved.reason is Reason.WORKFLOW_NOT_FOUND
        else:
            assert isinstance(deleted, StepwireError)
            assert deleted.reason is Reason.WORKFLOW_VERSION_IN_USE
            assert isinstance(resolved, Resolved)
