"""What searches find through IVFFlat indexes, beside the truth by numpy."""

from typing import Any

import numpy as np
import pytest
from vector_svc_harness import Client, containing, point

from stepwire.api.vector.v1.collection_pb2 import (
    INDEX_KIND_IVFFLAT,
    INDEX_STATE_READY,
    METRIC_COSINE,
    METRIC_EUCLIDEAN,
    QUANTIZATION_HALF,
    IndexOptions,
)
from stepwire.api.vector.v1.collection_service_pb2 import GetCollectionRequest
from stepwire.api.vector.v1.index_service_pb2 import BuildIndexRequest
from stepwire.api.vector.v1.search_pb2 import SEARCH_PLAN_INDEX, SEARCH_PLAN_ITERATIVE
from stepwire.testing.poll import eventually
from vector_svc.search import planner

ROWS = 2_000
DIMENSION = 32
# Lists are made with chance: the recall of so many queries differs by half a percent from one
# index to another, and its mean is eight times that above what is asked for.
QUERIES = 100
LIMIT = 10


@pytest.fixture(autouse=True)
def no_collection_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few points are enough for walks."""
    monkeypatch.setattr(planner, "ALWAYS_EXACT_VALUES", 0)
    monkeypatch.setattr(planner, "ALWAYS_EXACT_LEAST", 100)


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Points around centres, and queries near to such centres."""
    random = np.random.default_rng(11)
    centres = random.standard_normal((80, DIMENSION))

    def around(count: int) -> np.ndarray:
        noise = 0.6 * random.standard_normal((count, DIMENSION))
        return (centres[random.integers(0, len(centres), count)] + noise).astype("<f4")

    return around(ROWS), around(QUERIES)


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (METRIC_COSINE, {}),
        (METRIC_EUCLIDEAN, {"lists": 100}),
        (METRIC_COSINE, {"lists": 40, "quantization": QUANTIZATION_HALF}),
    ],
)
async def test_nearly_all_of_the_nearest_are_found(
    client: Client, metric: Any, options: dict[str, Any]
) -> None:
    vectors, queries = clusters()
    index = IndexOptions(kind=INDEX_KIND_IVFFLAT, **options)
    await client.create("things", DIMENSION, metric, index=index)
    await client.upsert([point(str(n), v, {"most": n % 10 > 0}) for n, v in enumerate(vectors)])
    await client.indexes.BuildIndex(BuildIndexRequest(collection="things"))

    async def ready() -> bool:
        request = GetCollectionRequest(collection="things")
        made = (await client.collections.GetCollection(request)).collection
        return made.index_state == INDEX_STATE_READY

    assert await eventually(ready, 30)
    if metric == METRIC_EUCLIDEAN:
        scores = -np.linalg.norm(vectors[None] - queries[:, None], axis=2)
    else:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = queries @ unit.T
    for filter_, among, plan in (
        (None, np.ones(ROWS, dtype=bool), SEARCH_PLAN_INDEX),
        (containing(most=True), np.arange(ROWS) % 10 > 0, SEARCH_PLAN_ITERATIVE),
    ):
        hits = 0
        for query, score in zip(queries, scores, strict=True):
            response = await client.find(query, limit=LIMIT, filter=filter_)
            assert response.report.plan == plan
            found = {each.point.id for each in response.points}
            assert len(found) == LIMIT
            nearest = np.argsort(-np.where(among, score, -np.inf))[:LIMIT]
            hits += len(found & set(map(str, nearest)))
        assert hits / (QUERIES * LIMIT) >= 0.95
