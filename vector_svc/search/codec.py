"""Between the messages of SearchService and its records."""

from stepwire.api.vector.v1 import search_service_pb2 as pb
from vector_svc.engine.fields import search_limit
from vector_svc.engine.payloads import read_filter
from vector_svc.engine.records import Match, Metric, Search
from vector_svc.points.codec import write_point


def search_of(message: pb.SearchPointsRequest, *, filter_max_bytes: int) -> Search:
    """Read what is searched for.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    return Search(
        vector=message.vector,
        limit=search_limit(message.limit),
        filter=read_filter(message.filter, field="filter", limit_bytes=filter_max_bytes),
        include_vectors=message.include_vectors,
        exact=message.exact,
    )


def write_match(match: Match, metric: Metric, into: pb.ScoredPoint) -> None:
    """Fill in a point that was found."""
    into.score = metric.score(match.distance)
    write_point(match.point, into.point)
