"""What can be set about the vector service."""

import os

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from stepwire.settings import MEBIBYTE, CallStreamSettings


class VectorSettings(CallStreamSettings):
    """Settings of the vector service, read from `STEPWIRE_VECTOR_*`."""

    model_config = SettingsConfigDict(env_prefix="STEPWIRE_VECTOR_", frozen=True)

    port: int = Field(
        default=50053,
        ge=0,
        le=65535,
        description="Port of the gRPC server; 0 takes a free one.",
    )
    max_message_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=1024,
        description="Largest message that the server receives or sends. The default holds an "
        "upsert of 10,000 points of up to 1,536 dimensions with small payloads.",
    )
    postgres_url: SecretStr = Field(
        default=SecretStr("postgresql://stepwire@127.0.0.1:54329/stepwire"),
        description="Database of the service, with pgvector 0.8.4 or newer available in it. "
        "A secret, since it may hold a password.",
    )
    postgres_min_connections: int = Field(
        default=2,
        ge=1,
        description="Connections to Postgres that are opened at start.",
    )
    postgres_max_connections: int = Field(
        default=16,
        ge=1,
        description="Most connections to Postgres.",
    )
    max_walks: int = Field(
        default=0,
        ge=0,
        description="Walks of indexes at the same time; others wait for their turn. Each keeps a "
        "core of Postgres busy: one more than Postgres has cores is best. 0: one more than the "
        "service may use itself, which suits a Postgres on the same machine.",
    )
    postgres_acquire_seconds: float = Field(
        default=5,
        gt=0,
        description="Longest wait for a free connection, or for the turn of a walk; after it a "
        "call is refused with OVERLOADED.",
    )
    postgres_statement_seconds: float = Field(
        default=600,
        gt=0,
        description="Longest time of one statement. A call's own deadline is usually shorter.",
    )
    max_snapshots: int = Field(
        default=4,
        ge=1,
        description="Exports and imports at the same time; one more is refused with OVERLOADED. "
        "Each keeps a connection to Postgres of its own, beside postgres_max_connections.",
    )
    snapshot_stall_seconds: float = Field(
        default=60,
        gt=0,
        description="For how long nothing of an export or import may move: the caller takes or "
        "sends nothing, or Postgres does. Then it is cut off with SNAPSHOT_CUT_OFF. While "
        "something moves, only snapshot_max_seconds and the caller's own deadline end it.",
    )
    snapshot_max_seconds: float = Field(
        default=21_600,
        gt=0,
        description="Longest time of an export or import. As long as one takes, Postgres cleans "
        "up no rows that were changed or deleted meanwhile, in any table of the database.",
    )
    model_target: str = Field(
        default="127.0.0.1:50054",
        description="Address of model_svc, which turns texts into vectors.",
    )
    memory_model: str = Field(
        default="all-minilm-l6-v2",
        min_length=1,
        max_length=128,
        description="Embedding model of collections that are made with the first memory.",
    )
    index_min_points: int = Field(
        default=5_000,
        ge=1,
        description="Points from which on a collection's index is built by itself, unless the "
        "collection says otherwise. Fewer are compared one by one in a few milliseconds.",
    )
    index_build_memory_bytes: int = Field(
        default=512 * MEBIBYTE,
        ge=64 * MEBIBYTE,
        description="Most memory of the build of an index (maintenance_work_mem). A build that "
        "would take more is refused unless it is allowed to be slow.",
    )
    index_build_workers: int = Field(
        default=1,
        ge=0,
        le=64,
        description="Processes that Postgres may add to the build of an index, each of which "
        "keeps a core busy.",
    )
    index_build_seconds: float = Field(
        default=5,
        gt=0,
        description="Time between two looks for indexes that are to be built.",
    )
    sweep_seconds: float = Field(
        default=60,
        gt=0,
        description="Time between two removals of points whose time has come. They are not "
        "shown in between.",
    )
    sweep_batch: int = Field(
        default=5_000,
        ge=1,
        description="Most points of a collection that are removed in one transaction.",
    )
    hnsw_m: int = Field(
        default=16,
        ge=2,
        le=100,
        description="Edges per point and layer of a new collection's HNSW index. More finds more "
        "and costs memory and time on writes.",
    )
    hnsw_ef_construction: int = Field(
        default=64,
        ge=4,
        le=1000,
        description="Candidates kept while a point is linked into a new collection's HNSW index. "
        "At least twice hnsw_m.",
    )
    hnsw_ef_search: int = Field(
        default=64,
        ge=1,
        le=1000,
        description="Candidates kept during a search; a search for more points keeps as many as "
        "it wants points.",
    )
    hnsw_max_scan_tuples: int = Field(
        default=20_000,
        ge=1,
        description="Points that a filtered search looks at through the index before it compares "
        "with every match instead.",
    )
    query_sample_rate: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the searches of a collection with query_samples that are kept to "
        "measure its recall by.",
    )
    query_sample_seconds: float = Field(
        default=5,
        gt=0,
        description="Time between two batches of searches that are kept. What was not written "
        "when the process ends is lost.",
    )
    payload_max_bytes: int = Field(
        default=256 * 1024,
        ge=2,
        description="Largest payload of a point, and largest filter, as JSON.",
    )
    collection_cache_entries: int = Field(
        default=10_000,
        ge=1,
        description="Collections whose configuration is kept in memory.",
    )
    estimate_cache_entries: int = Field(
        default=10_000,
        ge=1,
        description="Filters whose number of matching points is kept in memory.",
    )
    estimate_cache_seconds: float = Field(
        default=5,
        ge=0,
        description="How long a collection's size and a filter's matches are believed when a "
        "search is planned. They decide its speed, never its result's size.",
    )

    def walks_at_once(self) -> int:
        """Return how many walks of indexes may be under way."""
        return self.max_walks or len(os.sched_getaffinity(0)) + 1
