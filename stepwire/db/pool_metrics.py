"""How busy connection pools are, for whoever scrapes the process."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from opentelemetry.metrics import CallbackOptions, Observation

from stepwire.telemetry import meter, names


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections of a pool.

    Attributes:
        used: lent.
        idle: open, and free.
        most: as many as there may be.
    """

    used: int
    idle: int
    most: int


_pools: dict[str, Callable[[], PoolUse]] = {}


@contextmanager
def watched_pool(name: str, use: Callable[[], PoolUse]) -> Iterator[None]:
    """Show a pool in the process's metrics, within the `with` block.

    Args:
        name: one of few, the same in every instance; the newest pool of a name is shown.
        use: asked at each scrape, from another thread than the pool's.
    """
    _gauges()
    _pools[name] = use
    try:
        yield
    finally:
        if _pools.get(name) is use:
            del _pools[name]


@cache
def _gauges() -> None:
    """Make the instruments, once in a process."""
    meter().create_observable_gauge(
        names.DB_CONNECTIONS,
        callbacks=[_observe_connections],
        unit="{connection}",
        description="Open connections to Postgres, by pool and whether they are lent.",
    )
    meter().create_observable_gauge(
        names.DB_CONNECTIONS_MAX,
        callbacks=[_observe_most],
        unit="{connection}",
        description="Most connections to Postgres, by pool.",
    )


def _observe_connections(_: CallbackOptions) -> Iterable[Observation]:
    for name, use in list(_pools.items()):
        now = use()
        for state, number in (("used", now.used), ("idle", now.idle)):
            yield Observation(number, {names.DB_POOL: name, names.DB_CONNECTION_STATE: state})


def _observe_most(_: CallbackOptions) -> Iterable[Observation]:
    for name, use in list(_pools.items()):
        yield Observation(use().most, {names.DB_POOL: name})
