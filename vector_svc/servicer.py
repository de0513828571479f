"""The gRPC face of the service: decode, one call of the domain, encode."""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc.aio
import orjson

from stepwire.api.vector.v1 import vector_service_pb2 as pb
from stepwire.api.vector.v1.vector_service_pb2_grpc import VectorServiceServicer
from stepwire.call import current_call
from stepwire.errors import field_invalid
from stepwire.payload import json_to_struct
from vector_svc import validation
from vector_svc.catalogue import Catalogue
from vector_svc.model import (
    CollectionConfig,
    Match,
    Metric,
    PointDraft,
    Search,
    SizedCollection,
    StoredPoint,
)
from vector_svc.payloads import read_filter, read_payload
from vector_svc.points import Points

# From this many points on, decoding would hold up other calls for milliseconds.
_MANY_POINTS = 256

_METRICS = {
    pb.METRIC_UNSPECIFIED: Metric.COSINE,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_DOT: Metric.DOT,
    pb.METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
}
_METRIC_NUMBERS = {
    Metric.COSINE: pb.METRIC_COSINE,
    Metric.DOT: pb.METRIC_DOT,
    Metric.EUCLIDEAN: pb.METRIC_EUCLIDEAN,
}

_Context = grpc.aio.ServicerContext[Any, Any]


class VectorServicer(VectorServiceServicer):
    """`stepwire.api.vector.v1.VectorService`."""

    def __init__(self, catalogue: Catalogue, points: Points, *, payload_max_bytes: int) -> None:
        self._catalogue = catalogue
        self._points = points
        self._payload_max_bytes = payload_max_bytes

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: _Context
    ) -> pb.CreateCollectionResponse:
        """Make a collection."""
        wanted = request.collection
        if wanted.metric not in _METRICS:
            raise field_invalid("collection.metric", f"{wanted.metric} is not a metric")
        config = CollectionConfig(wanted.name, wanted.dimension, _METRICS[wanted.metric])
        made = await self._catalogue.create(current_call().tenant_id, config)
        return pb.CreateCollectionResponse(collection=_collection(made))

    async def GetCollection(
        self, request: pb.GetCollectionRequest, context: _Context
    ) -> pb.GetCollectionResponse:
        """Read a collection."""
        found = await self._catalogue.get(current_call().tenant_id, request.collection)
        return pb.GetCollectionResponse(collection=_collection(found))

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, context: _Context
    ) -> pb.ListCollectionsResponse:
        """List the tenant's collections."""
        found, token = await self._catalogue.list(
            current_call().tenant_id, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListCollectionsResponse(
            collections=map(_collection, found), next_page_token=token
        )

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: _Context
    ) -> pb.DeleteCollectionResponse:
        """Delete a collection."""
        await self._catalogue.delete(current_call().tenant_id, request.collection)
        return pb.DeleteCollectionResponse()

    async def UpsertPoints(
        self, request: pb.UpsertPointsRequest, context: _Context
    ) -> pb.UpsertPointsResponse:
        """Write points."""
        if len(request.points) < _MANY_POINTS:
            drafts = self._drafts(request.points)
        else:
            drafts = await asyncio.to_thread(self._drafts, request.points)
        upserted = await self._points.upsert(current_call().tenant_id, request.collection, drafts)
        return pb.UpsertPointsResponse(upserted=upserted)

    async def SearchPoints(
        self, request: pb.SearchPointsRequest, context: _Context
    ) -> pb.SearchPointsResponse:
        """Find the nearest points."""
        search = Search(
            vector=request.vector,
            limit=validation.search_limit(request.limit),
            filter=read_filter(request.filter, field="filter", limit_bytes=self._payload_max_bytes),
            include_vectors=request.include_vectors,
            exact=request.exact,
        )
        collection, found = await self._points.search(
            current_call().tenant_id, request.collection, search
        )
        response = pb.SearchPointsResponse()
        for match in found:
            _write_match(match, collection.config.metric, response.points.add())
        return response

    async def GetPoints(
        self, request: pb.GetPointsRequest, context: _Context
    ) -> pb.GetPointsResponse:
        """Read points."""
        found = await self._points.get(
            current_call().tenant_id,
            request.collection,
            list(request.ids),
            include_vectors=request.include_vectors,
        )
        response = pb.GetPointsResponse()
        for point in found:
            _write_point(point, response.points.add())
        return response

    async def DeletePoints(
        self, request: pb.DeletePointsRequest, context: _Context
    ) -> pb.DeletePointsResponse:
        """Delete points."""
        deleted = await self._points.delete(
            current_call().tenant_id, request.collection, list(request.ids)
        )
        return pb.DeletePointsResponse(deleted=deleted)

    def _drafts(self, points: Iterable[pb.Point]) -> list[PointDraft]:
        return [
            PointDraft(
                id=point.id,
                vector=point.vector,
                payload=read_payload(
                    point.payload,
                    field=f"points[{index}].payload",
                    limit_bytes=self._payload_max_bytes,
                ),
            )
            for index, point in enumerate(points)
        ]


def _collection(sized: SizedCollection) -> pb.Collection:
    config = sized.collection.config
    return pb.Collection(
        name=config.name,
        dimension=config.dimension,
        metric=_METRIC_NUMBERS[config.metric],
        point_count=sized.point_count,
    )


def _write_match(match: Match, metric: Metric, into: pb.ScoredPoint) -> None:
    into.score = metric.score(match.distance)
    _write_point(match.point, into.point)


def _write_point(point: StoredPoint, into: pb.Point) -> None:
    into.id = point.id
    json_to_struct(orjson.loads(point.payload), into.payload)
    if point.vector is not None:
        into.vector = point.vector
