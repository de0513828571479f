"""Trains in the background, and keeps this process's predictor up to date."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from router_svc.catalogue.holder import CatalogueHolder
from router_svc.learning.metrics import LearningMetrics
from router_svc.learning.ports import LearningStore
from router_svc.learning.predictor import LearntPredictor, load
from router_svc.learning.records import NewVersion, Outcomes, Version
from router_svc.learning.training import MAX_OUTCOMES, train
from stepwire.errors import Reason, StepwireError

_logger = logging.getLogger(__name__)

VERSIONS_LISTED: Final = 100
PURGED_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Habits:
    """When and with what is trained.

    Attributes:
        every_seconds: How often it is looked whether to train, and what is in use.
        after_outcomes: New outcomes that make a training worth while.
        decisions_kept: How long decisions wait for a report.
        outcomes_kept: How long outcomes are learnt from.
    """

    every_seconds: float
    after_outcomes: int
    decisions_kept: timedelta
    outcomes_kept: timedelta


class Trainer:
    """Keeps a predictor in use.

    Args:
        store: Keeps outcomes and versions.
        holder: Has the catalogue, whose qualities are what a first version must beat.
        metrics: Counts versions.
        habits: When and with what is trained.
    """

    def __init__(
        self,
        store: LearningStore,
        holder: CatalogueHolder,
        metrics: LearningMetrics,
        habits: Habits,
    ) -> None:
        self._store = store
        self._holder = holder
        self._metrics = metrics
        self._habits = habits
        self._used: LearntPredictor | None = None

    def predictor(self) -> LearntPredictor | None:
        """Returns the predictor in use; None when decisions go by the catalogue."""
        return self._used

    async def run(self) -> None:
        """Looks again and again; what fails is tried at the next turn."""
        while True:
            try:
                await self.turn()
            except StepwireError as error:
                _logger.warning("learning is postponed", extra={"why": str(error)})
            except Exception:
                _logger.exception("learning is postponed")
            await asyncio.sleep(self._habits.every_seconds)

    async def turn(self) -> None:
        """Trains if there is enough that is new, deletes what is old, and catches up."""
        if await self._store.new_outcomes() >= self._habits.after_outcomes:
            await self._train()
        while (
            await self._store.purge(
                decisions=self._habits.decisions_kept,
                outcomes=self._habits.outcomes_kept,
                limit=PURGED_AT_ONCE,
            )
            >= PURGED_AT_ONCE
        ):
            pass
        await self.catch_up()

    async def train(self) -> Version:
        """Trains a version now.

        Raises:
            StepwireError: OVERLOADED when a version is being trained.
        """
        version = await self._train()
        if version is None:
            raise StepwireError(
                Reason.OVERLOADED,
                "a version is being trained at this moment",
                metadata={"limit": "1"},
                retry_after=timedelta(seconds=5),
            )
        await self.catch_up()
        return version

    async def versions(self) -> Sequence[Version]:
        """Returns the newest versions, the newest first."""
        return await self._store.versions(limit=VERSIONS_LISTED)

    async def activate(self, version: int) -> Version | None:
        """Puts a version to use, or none for 0.

        Raises:
            StepwireError: PREDICTOR_NOT_FOUND.
        """
        active = await self._store.activate(version)
        await self.catch_up()
        return active

    async def catch_up(self) -> None:
        """Uses what the record says is in use: another instance may have trained it."""
        wanted = await self._store.active_version()
        if wanted == (0 if self._used is None else self._used.version):
            return
        self._used = _loaded(await self._store.active())
        _logger.info(
            "the predictor has changed",
            extra={"version": 0 if self._used is None else self._used.version},
        )

    async def _train(self) -> Version | None:
        models = len(self._holder.catalogue.models)
        version = await self._store.train(self._trained, limit=MAX_OUTCOMES * models)
        if version is not None:
            self._metrics.trained(version)
            _logger.info("a predictor was trained", extra={"why": version.judgement.told})
        return version

    async def _trained(self, outcomes: Outcomes, used: Version | None) -> NewVersion:
        qualities = {model.name: model.quality for model in self._holder.catalogue.models}
        return await asyncio.to_thread(train, outcomes, _loaded(used), qualities)


def _loaded(version: Version | None) -> LearntPredictor | None:
    if version is None or version.parameters is None:
        return None
    return load(version.parameters, version=version.version)
