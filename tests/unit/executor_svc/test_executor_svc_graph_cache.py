"""Graphs that are kept compiled."""

import asyncio

import pytest

from executor_svc.graphs.cache import ACCEPTED, GraphCache, NewerGraphError
from executor_svc.graphs.compile import compile_graph
from stepwire.api.executor.v1 import graph_pb2

GRAPH = compile_graph(
    graph_pb2.Graph(steps=[{"name": "a", "transform": {"expression": "1"}}]), limits=ACCEPTED
)


class Record:
    """Reads graphs, when it may."""

    def __init__(self, spec: bytes) -> None:
        self.spec = spec
        self.reads = 0
        self.may = asyncio.Event()

    async def read(self, _: bytes) -> bytes:
        self.reads += 1
        await self.may.wait()
        return self.spec


async def test_all_who_ask_for_a_graph_at_once_get_one_answer() -> None:
    """The steps of a large graph do so: each reading it by itself would take for ever."""
    record, cache = Record(GRAPH.spec), GraphCache()
    asking = [asyncio.create_task(cache.load(GRAPH.graph_hash, record.read)) for _ in range(9)]
    await asyncio.sleep(0)
    asking.pop(0).cancel()
    record.may.set()
    graphs = await asyncio.gather(*asking)
    assert record.reads == 1
    assert all(graph is graphs[0] for graph in graphs)
    assert await cache.load(GRAPH.graph_hash, record.read) is graphs[0]
    assert record.reads == 1


async def test_who_asks_behind_a_failure_has_it_read_again() -> None:
    record, cache = Record(GRAPH.spec + bytes([0xC0, 0x3E, 0x01])), GraphCache()
    record.may.set()
    for reads in (1, 2):
        with pytest.raises(NewerGraphError):
            await cache.load(GRAPH.graph_hash, record.read)
        assert record.reads == reads
    record.spec = GRAPH.spec
    assert (await cache.load(GRAPH.graph_hash, record.read)).spec == GRAPH.spec
