"""Which firings of a schedule are due, and when the next one is. Pure."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from executor_svc.schedules.cron import Cron, parse_cron
from executor_svc.schedules.records import Config

_DIGEST_BYTES = 8
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Firing:
    """One firing: when it is to be by the expression, and with its jitter."""

    nominal_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """What is due at a moment.

    Attributes:
        nominals: Firings to carry out, oldest first.
        missed_from: The first of the firings that are too late, if any are.
        missed_until: The moment before which those lie.
        following: The first firing that is not due yet; None when there is none any more.
    """

    nominals: Sequence[datetime]
    missed_from: datetime | None
    missed_until: datetime | None
    following: Firing | None


class Timing:
    """The firings of one schedule."""

    def __init__(self, schedule_id: UUID, config: Config) -> None:
        self._schedule_id = schedule_id
        self._config = config
        self._cron: Cron = parse_cron(config.cron, config.time_zone)

    def first(self, after: datetime) -> Firing | None:
        """Return the first firing strictly after a moment."""
        if self._config.start_at is not None:
            after = max(after, self._config.start_at - _INSTANT)
        nominal = self._cron.after(after)
        if nominal is None or (self._config.end_at is not None and nominal > self._config.end_at):
            return None
        return self._firing(nominal)

    def preview(self, after: datetime, count: int) -> Iterator[Firing]:
        """Yield the first firings strictly after a moment, at most `count`."""
        for _ in range(count):
            firing = self.first(after)
            if firing is None:
                return
            yield firing
            after = firing.nominal_at

    def due(self, first: datetime, now: datetime, *, limit: int) -> Due:
        """Return what is due of the firings from `first` on.

        Args:
            first: The first firing that has not been considered yet.
            now: The present.
            limit: Most firings to carry out; of more, the last ones are.
        """
        until = now if self._config.end_at is None else min(now, self._config.end_at)
        oldest = now - self._config.catch_up_window
        after = max(first, oldest - self._config.jitter) - _INSTANT
        # One more than wanted, since the last may have its jitter before it.
        firings = [
            self._firing(nominal)
            for nominal in self._cron.newest(after=after, until=until, limit=limit + 1)
        ]
        following = firings.pop() if firings and firings[-1].due_at > now else None
        nominals = [firing.nominal_at for firing in firings if firing.due_at >= oldest][-limit:]
        if following is None:
            following = self.first(max(nominals[-1] if nominals else now, first - _INSTANT))
        missed_until = nominals[0] if nominals else min(now, _nominal(following, now))
        missed = first < missed_until
        return Due(nominals, first if missed else None, missed_until if missed else None, following)

    def _firing(self, nominal: datetime) -> Firing:
        """Add the jitter: always the same, and always before the firing behind it."""
        if not self._config.jitter:
            return Firing(nominal, nominal)
        following = self._cron.after(nominal)
        longest = self._config.jitter
        if following is not None:
            longest = min(longest, following - nominal)
        seed = self._schedule_id.bytes + nominal.isoformat().encode()
        digest = hashlib.blake2b(seed, digest_size=_DIGEST_BYTES).digest()
        share = int.from_bytes(digest) / 256.0**_DIGEST_BYTES
        return Firing(nominal, nominal + longest * share)


def _nominal(firing: Firing | None, otherwise: datetime) -> datetime:
    return otherwise if firing is None else firing.nominal_at
