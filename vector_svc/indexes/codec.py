"""Between the messages of IndexService and its records."""

from uuid import UUID

from stepwire.api.vector.v1 import index_service_pb2 as pb
from stepwire.errors import field_invalid
from vector_svc.indexes.records import IndexBuild


def build_id_of(text: str) -> UUID:
    """Read the id of a build.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    try:
        return UUID(text)
    except ValueError:
        raise field_invalid("build_id", "is not the id of a build") from None


def write_build(build: IndexBuild, into: pb.IndexBuild) -> None:
    """Fill in a build."""
    into.build_id = str(build.id)
    into.collection = build.collection
    into.state = pb.IndexBuildState.Value(f"INDEX_BUILD_STATE_{build.state}")
    into.phase = build.phase
    into.progress = build.progress
    into.estimated_memory_bytes = build.estimated_bytes
    into.memory_bytes = build.memory_bytes
    into.failure = build.failure
    into.create_time.FromDatetime(build.created_at)
    if build.started_at is not None:
        into.start_time.FromDatetime(build.started_at)
    if build.ended_at is not None:
        into.end_time.FromDatetime(build.ended_at)
