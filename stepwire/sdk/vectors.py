"""The vector service, for programs."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import grpc.aio

from stepwire.api.vector.v1.collection_pb2 import Collection, Metric
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    DeleteCollectionRequest,
    GetCollectionRequest,
)
from stepwire.api.vector.v1.collection_service_pb2_grpc import (
    CollectionServiceAsyncStub,
    CollectionServiceStub,
)
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.point_service_pb2 import (
    DeletePointsRequest,
    GetPointsRequest,
    UpsertPointsRequest,
)
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceAsyncStub, PointServiceStub
from stepwire.api.vector.v1.search_pb2 import ScoredPoint
from stepwire.api.vector.v1.search_service_pb2_grpc import SearchServiceAsyncStub, SearchServiceStub
from stepwire.errors import Reason, StepwireError
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.search_stream import SearchStream
from stepwire.sdk.vector_requests import search_request


class Vectors:
    """Collections of vectors with payloads. Every method raises `StepwireError`.

    Args:
        channel: To the gateway; the caller closes it.
        target: What `channel` leads to, for error messages.
        timeout: Longest time for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, *, target: str, timeout: timedelta) -> None:
        self._collections: CollectionServiceAsyncStub = CollectionServiceStub(channel)
        self._points: PointServiceAsyncStub = PointServiceStub(channel)
        self._searches: SearchServiceAsyncStub = SearchServiceStub(channel)
        self._target = target
        self._timeout = timeout
        self._timeout_seconds = timeout.total_seconds()

    async def create(
        self, name: str, *, dimension: int, metric: "Metric.ValueType" = Metric.METRIC_COSINE
    ) -> Collection:
        """Creates a collection; repeating it with the same configuration has no effect."""
        collection = Collection(name=name, dimension=dimension, metric=metric)
        with raising_ours(self._target):
            response = await self._collections.CreateCollection(
                CreateCollectionRequest(collection=collection), timeout=self._timeout_seconds
            )
        return response.collection

    async def find(self, name: str) -> Collection | None:
        """Reads a collection's configuration and size; None if there is none of this name."""
        try:
            with raising_ours(self._target):
                response = await self._collections.GetCollection(
                    GetCollectionRequest(collection=name), timeout=self._timeout_seconds
                )
        except StepwireError as error:
            if error.reason is Reason.COLLECTION_NOT_FOUND:
                return None
            raise
        return response.collection

    async def drop(self, name: str) -> bool:
        """Deletes a collection and its points; returns whether there was one."""
        try:
            with raising_ours(self._target):
                await self._collections.DeleteCollection(
                    DeleteCollectionRequest(collection=name), timeout=self._timeout_seconds
                )
        except StepwireError as error:
            if error.reason is Reason.COLLECTION_NOT_FOUND:
                return False
            raise
        return True

    async def upsert(self, collection: str, points: Sequence[Point]) -> int:
        """Writes points, replacing those whose ids exist; returns their number."""
        request = UpsertPointsRequest(collection=collection, points=points)
        with raising_ours(self._target):
            response = await self._points.UpsertPoints(request, timeout=self._timeout_seconds)
        return response.upserted

    async def search(
        self,
        collection: str,
        vector: bytes,
        *,
        limit: int = 10,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  (the field's name)
    ) -> Sequence[ScoredPoint]:
        """Finds the points nearest to a vector (little-endian float32 values), best first.

        With a filter, only those whose payload contains this object.
        """
        request = search_request(collection, vector, limit=limit, containing=filter)
        with raising_ours(self._target):
            response = await self._searches.SearchPoints(request, timeout=self._timeout_seconds)
        return response.points

    def stream(self) -> SearchStream:
        """Returns a stream for a program that searches all the time."""
        return SearchStream(self._searches, target=self._target, timeout=self._timeout)

    async def get(self, collection: str, ids: Sequence[str]) -> Sequence[Point]:
        """Reads points by id, without their vectors; unknown ids are left out."""
        request = GetPointsRequest(collection=collection, ids=ids)
        with raising_ours(self._target):
            response = await self._points.GetPoints(request, timeout=self._timeout_seconds)
        return response.points

    async def delete(self, collection: str, ids: Sequence[str]) -> int:
        """Deletes points by id, passing over unknown ids; returns how many there were."""
        request = DeletePointsRequest(collection=collection, ids=ids)
        with raising_ours(self._target):
            response = await self._points.DeletePoints(request, timeout=self._timeout_seconds)
        return response.deleted
