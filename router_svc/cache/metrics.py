"""Counts what becomes of requests that may be answered from the cache."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from router_svc.catalogue.prices import MICRO_USD_PER_USD
from router_svc.generate.records import CacheHit, HitKind

LOOKUPS: Final = "stepwire.router.cache.lookups"
REFUSED: Final = "stepwire.router.cache.refused"
ERRORS: Final = "stepwire.router.cache.errors"
SAVED: Final = "stepwire.router.cache.saved"
FOUND: Final = "stepwire.router.cache.found"
MEMORY: Final = "stepwire.router.cache.memory"
RESULT: Final = "stepwire.router.cache.result"
DIFFERENCE: Final = "stepwire.router.cache.difference"
PART: Final = "stepwire.router.cache.part"
HIT: Final = "stepwire.router.cache.hit"

MISS: Final = "miss"
MAX_TENANTS: Final = 10_000
"""Whose counts are kept; of more, those who asked longest ago begin anew."""


@dataclass(slots=True)
class Counts:
    """What has become of a tenant's requests since the start of this instance."""

    requests: int = 0
    hits: Counter[HitKind] = field(default_factory=Counter)
    refused: int = 0
    errors: int = 0
    saved_micro_usd: int = 0
    found: Counter[str] = field(default_factory=Counter)


class CacheMetrics:
    """Counts for all in metrics, and for each tenant here."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._tenants: OrderedDict[str, Counts] = OrderedDict()
        self._lookups = meter.create_counter(
            LOOKUPS, unit="{request}", description="Requests to the cache, by what they got."
        )
        self._refused = meter.create_counter(
            REFUSED,
            unit="{answer}",
            description="Answers of the same meaning that were not given, by what differs.",
        )
        self._errors = meter.create_counter(
            ERRORS, unit="{error}", description="Times that a part of the cache was not there."
        )
        self._found = meter.create_counter(
            FOUND, unit="{answer}", description="Kept answers that were found, by where."
        )
        self._saved = meter.create_counter(
            SAVED, unit="{USD}", description="What the answers that were given again had cost."
        )

    def watch_memory(self, size_bytes: Callable[[], int]) -> None:
        """Shows what the answers in memory take."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(size_bytes())]

        self._meter.create_observable_gauge(
            MEMORY, [observe], unit="By", description="What the answers in memory take."
        )

    def of(self, tenant_id: str) -> Counts:
        """Returns the counts of a tenant."""
        counts = self._tenants.setdefault(tenant_id, Counts())
        self._tenants.move_to_end(tenant_id)
        if len(self._tenants) > MAX_TENANTS:
            self._tenants.popitem(last=False)
        return counts

    def answered(self, tenant_id: str, hit: CacheHit | None) -> None:
        """Counts a request, by how its answer was found; None for one that was made."""
        self._lookups.add(1, {RESULT: MISS if hit is None else hit.kind.value})
        counts = self.of(tenant_id)
        counts.requests += 1
        if hit is None:
            return
        counts.hits[hit.kind] += 1
        counts.saved_micro_usd += hit.saved_micro_usd
        self._saved.add(hit.saved_micro_usd / MICRO_USD_PER_USD)

    def refused(self, tenant_id: str, difference: str) -> None:
        """Counts an answer that was not given for a difference that matters."""
        self._refused.add(1, {DIFFERENCE: difference})
        self.of(tenant_id).refused += 1

    def found(self, tenant_id: str, part: str) -> None:
        """Counts a kept answer, whether it is given or not."""
        self._found.add(1, {PART: part})
        self.of(tenant_id).found[part] += 1

    def failed(self, tenant_id: str, part: str) -> None:
        """Counts a part that was not there."""
        self._errors.add(1, {PART: part})
        self.of(tenant_id).errors += 1
