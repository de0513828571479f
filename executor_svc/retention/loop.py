"""Makes partitions before they are needed, and drops those of the distant past.

Every instance of the executor does so now and then; one works at a time. Nothing depends
on it to be done in time: rows without a partition lie in the default one.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from executor_svc.retention.ports import BusyError, Partitions, RetentionStore, TooLongError
from executor_svc.retention.spans import Partition, first_partitioned, outdated, wanted
from executor_svc.tasks.task_ids import FIRST_ID, created_at, first_id_at

logger = logging.getLogger(__name__)

# After a turn that had to give way.
AGAIN_SECONDS = 5.0
# By how much a graph may have been used later than the record says: by a day, since that is
# written once a day, by how long an executor counts on having it written
# (`executor_svc.tasks.stored_graphs`), and by as long as clocks and processes may stand still.
GRAPH_MARGIN = timedelta(days=3)


def _now() -> datetime:
    return datetime.now(UTC)


def _warn(what: str, partition: Partition, error: TooLongError) -> None:
    logger.warning(
        "a partition could not be %s",
        what,
        extra={"partition": partition.name, "cause": str(error)},
    )


class Retention:
    """Keeps the record small until it is cancelled."""

    def __init__(
        self,
        store: RetentionStore,
        *,
        span: timedelta,
        keep: timedelta,
        every_seconds: float,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        """`span` is the length of a partition; tasks are kept for `keep`, or for ever if 0."""
        self._store = store
        self._span = span
        self._keep = keep
        self._every_seconds = every_seconds
        self._clock = clock
        self._rng = random.Random()  # noqa: S311 - no secret

    async def run(self) -> None:
        """Take turns for ever; one that fails, or gives way, is repeated soon."""
        while True:
            wait = self._every_seconds * self._rng.uniform(0.9, 1.1)
            try:
                done = await self.turn()
            except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
                logger.warning("keeping the record small failed", extra={"cause": repr(error)})
                done = False
            await asyncio.sleep(wait if done else min(wait, AGAIN_SECONDS))

    async def prepare(self) -> None:
        """Make the partitions of now before the first task comes, if that can be done at once."""
        async with self._store.alone() as partitions:
            if partitions is not None:
                await self._make(partitions)

    async def turn(self) -> bool:
        """Do what is to be done; return False if some of it had to give way."""
        async with self._store.alone() as partitions:
            if partitions is None:
                return True
            made = await self._make(partitions)
            return await self._tidy(partitions) and made if self._keep else made

    async def _make(self, partitions: Partitions) -> bool:
        """Make the partitions that are missing."""
        for partition in wanted(self._clock(), self._span, await partitions.existing()):
            try:
                if await partitions.add(partition):
                    logger.info("partition made", extra={"partition": partition.name})
            except BusyError:
                return False
            except TooLongError as error:
                # Not again soon: everybody has waited for it.
                _warn("made", partition, error)
        return True

    async def _tidy(self, partitions: Partitions) -> bool:
        """Drop and delete what is too old."""
        cutoff = self._clock() - self._keep
        done = True
        for partition in outdated(cutoff, await partitions.existing()):
            done = await self._drop(partitions, partition, cutoff) and done
        upper = first_partitioned(cutoff, await partitions.existing())
        await partitions.purge(FIRST_ID, upper, ended=cutoff)
        await partitions.forget(FIRST_ID, first_id_at(cutoff))
        await partitions.drop_graphs(upper, unused=created_at(upper) - GRAPH_MARGIN)
        return done

    async def _drop(self, partitions: Partitions, partition: Partition, cutoff: datetime) -> bool:
        kept = await partitions.kept(partition, ended=cutoff)
        if kept is None:
            # Many tasks outlast their time, or have only just ended: those go by themselves.
            if partition in outdated(cutoff - self._span, [partition]):
                await partitions.purge(partition.lower, partition.upper, ended=cutoff)
            return True
        try:
            await partitions.drop(partition, kept)
        except BusyError:
            return False
        except TooLongError as error:
            _warn("dropped", partition, error)
            return True
        logger.info(
            "partition dropped", extra={"partition": partition.name, "kept": len(kept.tasks)}
        )
        return True
