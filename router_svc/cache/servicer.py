"""CacheService over gRPC: decode, one call of the domain, encode."""

import grpc.aio

from router_svc.cache.between import REDIS
from router_svc.cache.operating import CacheOperations, CacheView
from router_svc.cache.records import Selection
from router_svc.generate.records import HitKind
from router_svc.requests.check import MAX_AGE
from stepwire.api.router.v1 import cache_pb2
from stepwire.api.router.v1 import cache_service_pb2 as pb
from stepwire.api.router.v1.cache_service_pb2_grpc import CacheServiceServicer
from stepwire.call import current_call
from stepwire.errors import field_invalid

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["CacheService"].full_name

_Context = grpc.aio.ServicerContext[object, object]


class CacheServicer(CacheServiceServicer):
    """Errors are raised as `StepwireError`; the server's interceptors answer with them."""

    def __init__(self, cache: CacheOperations) -> None:
        self._cache = cache

    async def InvalidateAnswers(
        self, request: pb.InvalidateAnswersRequest, context: _Context
    ) -> pb.InvalidateAnswersResponse:
        removed = await self._cache.invalidate(
            _selection(request), validate_only=request.validate_only
        )
        return pb.InvalidateAnswersResponse(answers=removed)

    async def GetCacheStats(
        self, request: pb.GetCacheStatsRequest, context: _Context
    ) -> pb.GetCacheStatsResponse:
        view = await self._cache.view(current_call().tenant_id)
        return pb.GetCacheStatsResponse(stats=_stats(view))


def _selection(request: pb.InvalidateAnswersRequest) -> Selection:
    age = request.older_than.seconds + request.older_than.nanos / 1e9
    if request.HasField("older_than") and not 0 < age <= MAX_AGE.total_seconds():
        raise field_invalid("older_than", f"must be above 0 and at most {MAX_AGE.days} days")
    for field in ("tag", "model", "model_version"):
        if "\0" in getattr(request, field):
            raise field_invalid(field, "must not hold U+0000")
    conditions = [request.tag, request.model, request.model_version, age]
    if request.all and any(conditions):
        raise field_invalid("all", "is not to be set together with other conditions")
    if not request.all and not any(conditions):
        raise field_invalid("all", "must be set where there is no other condition")
    return Selection(
        tenant_id=current_call().tenant_id,
        tag=request.tag or None,
        model=request.model or None,
        model_version=request.model_version or None,
        older_than_seconds=age or None,
    )


def _stats(view: CacheView) -> cache_pb2.CacheStats:
    shares, counts = view.holding.shares, view.counts
    told = cache_pb2.CacheStats(
        answers=sum(each.answers for each in shares),
        bytes=sum(each.size_bytes for each in shares),
        models=[
            cache_pb2.ModelAnswers(
                model=each.model,
                model_version=each.model_version,
                answers=each.answers,
                bytes=each.size_bytes,
            )
            for each in shares
        ],
        counts=cache_pb2.CacheCounts(
            requests=counts.requests,
            exact_hits=counts.hits[HitKind.EXACT],
            semantic_hits=counts.hits[HitKind.SEMANTIC],
            joined=counts.hits[HitKind.JOINED],
            refused=counts.refused,
            errors=counts.errors,
            saved_micro_usd=counts.saved_micro_usd,
            redis_finds=counts.found[REDIS],
        ),
        semantic_error=view.semantic_error,
        redis_error=view.redis_error,
    )
    if view.holding.oldest is not None:
        told.oldest_time.FromNanoseconds(int(view.holding.oldest * 1e9))
    return told
