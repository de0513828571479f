"""The estimate of an index build's memory, held against where pgvector runs out of it."""

import re

import asyncpg
import pytest

from vector_svc.engine.records import CollectionConfig, Element, IndexOptions, Metric, Quantization
from vector_svc.indexes.memory import build_bytes

DIMENSION = 256
ROWS = 3500
MEMORY_KIB = 4096
# How far the estimate may be off.
SHARE = 0.05


@pytest.mark.parametrize(
    ("m", "quantization", "column"),
    [(8, Quantization.NONE, "vector"), (16, Quantization.HALF, "halfvec")],
)
async def test_a_graph_takes_what_was_estimated(
    service_url: str, m: int, quantization: Quantization, column: str
) -> None:
    connection = await asyncpg.connect(service_url)
    try:
        said: list[str] = []
        connection.add_log_listener(lambda _, message: said.append(message.message))
        await connection.execute(
            f"""
            CREATE EXTENSION IF NOT EXISTS vector;
            SET maintenance_work_mem = '{MEMORY_KIB}kB';
            SET max_parallel_maintenance_workers = 0;
            CREATE TEMPORARY TABLE points AS SELECT (
                SELECT array_agg(random()) FROM generate_series(1, {DIMENSION} + 0 * i)
            )::real[]::vector({DIMENSION})::{column}({DIMENSION}) AS v
            FROM generate_series(1, {ROWS}) AS i;
            CREATE INDEX ON points USING hnsw (v {column}_l2_ops)
                WITH (m = {m}, ef_construction = {2 * m});
            """
        )
    finally:
        await connection.close()
    (rows,) = re.findall(r"no longer fits into maintenance_work_mem after (\d+) tuples", said[-1])
    config = CollectionConfig(
        "points",
        DIMENSION,
        Metric.EUCLIDEAN,
        Element.FLOAT32,
        index=IndexOptions(m=m, quantization=quantization),
    )
    assert build_bytes(config, rows=int(rows)) == pytest.approx(MEMORY_KIB * 1024, rel=SHARE)
