"""Wiring of learning."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import asyncpg

from router_svc.catalogue.holder import CatalogueHolder
from router_svc.learning.journal import DecisionJournal
from router_svc.learning.metrics import LearningMetrics
from router_svc.learning.outcomes import OutcomeReports
from router_svc.learning.servicer import SERVICE_NAME, PredictorServicer
from router_svc.learning.store import PostgresLearningStore
from router_svc.learning.trainer import Habits, Trainer
from router_svc.settings import RouterSettings
from stepwire.api.router.v1.predictor_service_pb2_grpc import (
    add_PredictorServiceServicer_to_server,
)
from stepwire.rpc import Service
from stepwire.telemetry import meter


@dataclass(frozen=True, slots=True)
class Learning:
    """What learning gives to the rest: where decisions and reports go, and who predicts."""

    journal: DecisionJournal
    reports: OutcomeReports
    trainer: Trainer
    services: Sequence[Service]


async def wire(
    pool: asyncpg.Pool,
    holder: CatalogueHolder,
    *,
    settings: RouterSettings,
    stack: AsyncExitStack,
) -> Learning:
    """Lets decisions be remembered and learnt from, from now on."""
    store = PostgresLearningStore(pool)
    metrics = LearningMetrics(meter())
    journal = DecisionJournal(store, metrics)
    habits = Habits(
        every_seconds=settings.learning_seconds,
        after_outcomes=settings.learning_outcomes,
        decisions_kept=timedelta(days=settings.decision_days),
        outcomes_kept=timedelta(days=settings.outcome_days),
    )
    trainer = Trainer(store, holder, metrics, habits)
    await trainer.catch_up()
    # Decisions of the last moments are written when the rest has ended.
    stack.push_async_callback(journal.flush)
    for name, work in (("journal of decisions", journal.run()), ("trainer", trainer.run())):
        stack.callback(asyncio.create_task(work, name=name).cancel)
    add = partial(add_PredictorServiceServicer_to_server, PredictorServicer(trainer))
    return Learning(
        journal=journal,
        reports=OutcomeReports(store, journal, holder, metrics),
        trainer=trainer,
        services=[Service(SERVICE_NAME, add)],
    )
