"""Neighbours over gRPC: model_svc tells what questions mean, vector_svc finds them."""

import re
import time
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

import grpc.aio

from router_svc.cache.records import Embedded, Kept, Near
from stepwire.api.model.v1 import model_service_pb2 as model_pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub, ModelServiceStub
from stepwire.api.vector.v1 import collection_pb2, search_pb2
from stepwire.api.vector.v1.collection_service_pb2 import CreateCollectionRequest
from stepwire.api.vector.v1.collection_service_pb2_grpc import (
    CollectionServiceAsyncStub,
    CollectionServiceStub,
)
from stepwire.api.vector.v1.filter_pb2 import Filter
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.point_service_pb2 import UpsertPointsRequest
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceAsyncStub, PointServiceStub
from stepwire.api.vector.v1.search_service_pb2 import SearchPointsRequest
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceAsyncStub, SearchServiceStub
from stepwire.errors import Reason
from stepwire.rpc.status import from_rpc_error

R = TypeVar("R")

PARTITION: Final = "partition"
# Of calls behind the requests; those on their way are bounded by the caller.
TIMEOUT_SECONDS: Final = 10.0
_MAX_NAME: Final = 63
_PREFIX: Final = "stepwire-answers-"


class VectorNeighbours:
    """See `Neighbours`. Each tenant has a collection of its own for each embedding model.

    Points have no text: their ids are the keys of the answers, and their payload is the
    partition.

    Args:
        model: Channel to model_svc; the caller closes it.
        vector: Channel to vector_svc; the caller closes it.
    """

    def __init__(self, model: grpc.aio.Channel, vector: grpc.aio.Channel) -> None:
        self._models: ModelServiceAsyncStub = ModelServiceStub(model)
        self._collections: CollectionServiceAsyncStub = CollectionServiceStub(vector)
        self._points: PointServiceAsyncStub = PointServiceStub(vector)
        self._searches: SearchServiceAsyncStub = SearchServiceStub(vector)

    async def embed(self, text: str) -> Embedded | None:
        """See `Neighbours`."""
        request = model_pb.EmbedRequest(texts=[text], refuse_longer=True)
        response = await _unless(
            self._models.Embed(request, timeout=TIMEOUT_SECONDS), Reason.MODEL_INPUT_INVALID
        )
        if response is None:
            return None
        return Embedded(
            _space(response.model, response.dimension), response.vectors, response.dimension
        )

    async def nearest(
        self, ask: Embedded, *, partition: bytes, least: float, limit: int
    ) -> Sequence[Near]:
        """See `Neighbours`."""
        request = SearchPointsRequest(
            collection=ask.space,
            vector=ask.vector,
            limit=limit,
            filter=_within(partition),
            score_threshold=least,
            payload=search_pb2.PayloadSelection(none=True),
        )
        response = await _unless(
            self._searches.SearchPoints(request, timeout=TIMEOUT_SECONDS),
            Reason.COLLECTION_NOT_FOUND,
        )
        if response is None:
            return ()
        return [Near(bytes.fromhex(each.point.id), each.score) for each in response.points]

    async def add(self, questions: Sequence[tuple[Kept, Embedded]], *, ttl_seconds: float) -> None:
        """See `Neighbours`."""
        # A request has each id once.
        points = {
            kept.key: _point(kept, meaning, ttl_seconds=ttl_seconds) for kept, meaning in questions
        }
        meaning = questions[0][1]
        request = UpsertPointsRequest(collection=meaning.space, points=points.values())
        upserting = self._points.UpsertPoints(request, timeout=TIMEOUT_SECONDS)
        if await _unless(upserting, Reason.COLLECTION_NOT_FOUND) is not None:
            return
        wanted = CreateCollectionRequest(collection=_collection(meaning))
        await _unless(self._collections.CreateCollection(wanted, timeout=TIMEOUT_SECONDS))
        await _unless(self._points.UpsertPoints(request, timeout=TIMEOUT_SECONDS))


def _space(model: str, dimension: int) -> str:
    """Returns the name of the collection for one embedding model."""
    plain = re.sub(r"[^a-z0-9]+", "-", model.lower())
    return f"{_PREFIX}{plain[: _MAX_NAME - len(_PREFIX) - 7].strip('-')}-{dimension}"


def _point(kept: Kept, meaning: Embedded, *, ttl_seconds: float) -> Point:
    point = Point(id=kept.key.hex(), vector=meaning.vector)
    point.payload.update({PARTITION: kept.partition.hex()})
    point.expire_time.FromNanoseconds(int((time.time() + ttl_seconds) * 1e9))
    return point


def _collection(meaning: Embedded) -> collection_pb2.Collection:
    field = collection_pb2.PromotedField(name=PARTITION, type=collection_pb2.FIELD_TYPE_TEXT)
    return collection_pb2.Collection(
        name=meaning.space, dimension=meaning.dimension, fields=[field]
    )


def _within(partition: bytes) -> Filter:
    made = Filter()
    field = made.must.add().field
    field.path = PARTITION
    field.equals.string_value = partition.hex()
    return made


async def _unless(call: Awaitable[R], *reasons: Reason) -> R | None:
    """Returns what a call brings; None when it is refused for one of `reasons`.

    Raises:
        ConnectionError: It fails otherwise.
    """
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        ours = from_rpc_error(error)
        if ours is not None and ours.reason in reasons:
            return None
        told = error.details() if ours is None else ours.message
        raise ConnectionError(f"{error.code().name}: {told}") from error
