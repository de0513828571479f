"""What callers say and hear of collections besides the collections themselves. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vector_svc.engine.records import CollectionConfig, FieldType, IndexOptions


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to change of a collection.

    Attributes:
        index: What its index is to be; None for no change.
        fields: Its promoted fields; None for no change.
        sets_ttl: Whether `default_ttl` changes.
        default_ttl: For how long points are kept; None for ever.
        query_samples: Most searches that are kept to measure recall by; None for no change.
    """

    index: IndexOptions | None
    fields: Mapping[str, FieldType] | None
    sets_ttl: bool
    default_ttl: timedelta | None
    query_samples: int | None

    def apply(self, config: CollectionConfig) -> CollectionConfig:
        """Return a configuration after the change."""
        return replace(
            config,
            index=config.index if self.index is None else self.index,
            fields=config.fields if self.fields is None else self.fields,
            default_ttl=self.default_ttl if self.sets_ttl else config.default_ttl,
            query_samples=(
                config.query_samples if self.query_samples is None else self.query_samples
            ),
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """What a collection takes; see `CollectionStats` in collection.proto."""

    point_count: int
    expiring_points: int
    table_bytes: int
    index_bytes: int
    vector_index_bytes: int
    dead_points: int
    analyzed_at: datetime | None
    query_samples: int
