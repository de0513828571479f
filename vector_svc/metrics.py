"""The instruments of the vector service."""

from collections.abc import Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation

from stepwire.telemetry import meter
from vector_svc.search.records import Plan

SEARCHES: Final = "stepwire.vector.searches"
WALKS_GIVEN_UP: Final = "stepwire.vector.walks_given_up"
POINTS_WRITTEN: Final = "stepwire.vector.points_written"
POINTS_DELETED: Final = "stepwire.vector.points_deleted"
POINTS_EXPIRED: Final = "stepwire.vector.points_expired"
QUERIES_KEPT: Final = "stepwire.vector.queries_kept"
QUERIES_DROPPED: Final = "stepwire.vector.queries_dropped"
INDEX_BUILDS: Final = "stepwire.vector.index_builds"
STATE: Final = "stepwire.vector.state"
PLAN: Final = "stepwire.vector.plan"


class VectorMetrics:
    """The instruments, made once per process."""

    def __init__(self) -> None:
        # Observed when scraped: adding to an instrument would take 8 µs of each search.
        self._searches = dict.fromkeys(Plan, 0)
        meter().create_observable_counter(
            SEARCHES,
            callbacks=[self._observe_searches],
            unit="{search}",
            description="Searches by the way they took.",
        )
        self.walks_given_up = meter().create_counter(
            WALKS_GIVEN_UP,
            unit="{search}",
            description="Searches through the index that found too few points and were done "
            "again by comparing with every match.",
        )
        self.points_written = meter().create_counter(
            POINTS_WRITTEN, unit="{point}", description="Points written."
        )
        self.points_deleted = meter().create_counter(
            POINTS_DELETED, unit="{point}", description="Points deleted by callers."
        )

        self.points_expired = meter().create_counter(
            POINTS_EXPIRED, unit="{point}", description="Points removed when their time had come."
        )
        self.queries_kept = meter().create_counter(
            QUERIES_KEPT, unit="{query}", description="Searches kept to measure recall by."
        )
        self.queries_dropped = meter().create_counter(
            QUERIES_DROPPED,
            unit="{query}",
            description="Searches that were to be kept, and for which there was no room or that "
            "could not be written.",
        )
        self._index_builds = meter().create_counter(
            INDEX_BUILDS, unit="{build}", description="Builds of indexes by how they ended."
        )
        # What begins with its first event has no growth that would tell of it.
        for counter in (
            self.walks_given_up,
            self.points_written,
            self.points_deleted,
            self.points_expired,
            self.queries_kept,
            self.queries_dropped,
        ):
            counter.add(0)

    def built(self, state: str) -> None:
        """Count a build of an index that ended so."""
        self._index_builds.add(1, {STATE: state})

    def searched(self, plan: Plan) -> None:
        """Count a search that went this way."""
        self._searches[plan] += 1

    def _observe_searches(self, _options: CallbackOptions) -> Iterable[Observation]:
        for plan, number in self._searches.items():
            yield Observation(number, {PLAN: plan.value})
