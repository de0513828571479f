"""Wiring of learning."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Protocol

import asyncpg

from router_svc.catalogue.holder import CatalogueHolder
from router_svc.decide.ports import Forgetful, Journal, Predictor
from router_svc.generate.nothing import NoObserver
from router_svc.generate.ports import Observer
from router_svc.learning.journal import DecisionJournal
from router_svc.learning.metrics import LearningMetrics
from router_svc.learning.outcomes import NoReports, OutcomeReports
from router_svc.learning.ports import Reports
from router_svc.learning.servicer import SERVICE_NAME, PredictorServicer
from router_svc.learning.store import PostgresLearningStore
from router_svc.learning.trainer import Habits, Trainer
from router_svc.settings import RouterSettings
from stepwire.api.router.v1.predictor_service_pb2_grpc import (
    add_PredictorServiceServicer_to_server,
)
from stepwire.rpc import Service
from stepwire.telemetry import meter


class Memory(Journal, Observer, Protocol):
    """Takes decisions, and what became of them."""


class Oblivion(Forgetful, NoObserver):
    """A `Memory` that keeps nothing."""


@dataclass(frozen=True, slots=True)
class Learning:
    """What learning gives to the rest; by itself, without a record, nothing.

    Attributes:
        journal: Where decisions go, and what became of them.
        reports: Where reports of outcomes go.
        predictor: Returns the predictor in use.
        services: What shows the versions.
    """

    journal: Memory = field(default_factory=Oblivion)
    reports: Reports = field(default_factory=NoReports)
    predictor: Callable[[], Predictor | None] = lambda: None
    services: Sequence[Service] = ()


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
        predictor=trainer.predictor,
        services=[Service(SERVICE_NAME, add)],
    )
