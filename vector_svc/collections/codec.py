"""Between the messages of CollectionService and its records."""

from typing import Final

from stepwire.api.vector.v1 import collection_pb2 as pb
from stepwire.errors import field_invalid
from vector_svc.engine.records import CollectionConfig, Metric, SizedCollection

_METRICS: Final = {
    pb.METRIC_UNSPECIFIED: Metric.COSINE,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_DOT: Metric.DOT,
    pb.METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
}
_METRIC_NUMBERS: Final = {
    Metric.COSINE: pb.METRIC_COSINE,
    Metric.DOT: pb.METRIC_DOT,
    Metric.EUCLIDEAN: pb.METRIC_EUCLIDEAN,
}


def config_of(message: pb.Collection) -> CollectionConfig:
    """Read what a collection is to be made of.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if message.metric not in _METRICS:
        raise field_invalid("collection.metric", f"{message.metric} is not a metric")
    return CollectionConfig(message.name, message.dimension, _METRICS[message.metric])


def write_collection(sized: SizedCollection, into: pb.Collection) -> None:
    """Fill in a collection."""
    config = sized.collection.config
    into.name = config.name
    into.dimension = config.dimension
    into.metric = _METRIC_NUMBERS[config.metric]
    into.point_count = sized.point_count
