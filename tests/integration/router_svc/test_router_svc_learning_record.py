"""Decisions, reports and versions of the predictor on a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import numpy as np
import pytest

from router_svc.catalogue.holder import CatalogueHolder, Snapshot
from router_svc.learning.journal import DecisionJournal
from router_svc.learning.metrics import LearningMetrics
from router_svc.learning.outcomes import OutcomeReports
from router_svc.learning.records import Judgement, NewVersion, PredictorState, Report
from router_svc.learning.store import PostgresLearningStore
from router_svc.learning.trainer import Habits, Trainer
from stepwire.call import call_context
from stepwire.db import migrate, open_pool
from stepwire.errors import Reason, StepwireError
from stepwire.ids import uuid7
from stepwire.telemetry import meter
from stepwire.testing.poll import eventually
from tests.unit.router_svc.router_builders import a_catalogue, a_model, a_request, decide_on

DIMENSIONS = 8
DEAR = {"input_usd_per_million_tokens": 9, "output_usd_per_million_tokens": 9}
LARGE = a_model("large", quality=0.9, prices=[DEAR])
CATALOGUE = a_catalogue(a_model("small", quality=0.6), LARGE)
HABITS = Habits(
    every_seconds=60,
    after_outcomes=10,
    decisions_kept=timedelta(days=1),
    outcomes_kept=timedelta(days=1),
)


class Parts:
    """What learning is made of, over one database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        metrics = LearningMetrics(meter())
        holder = CatalogueHolder(
            _Nowhere(), Snapshot(CATALOGUE, {}, "v"), noticed=lambda taken: None
        )
        self.pool = pool
        self.store = PostgresLearningStore(pool)
        self.journal = DecisionJournal(self.store, metrics)
        self.reports = OutcomeReports(self.store, self.journal, holder, metrics)
        self.trainer = Trainer(self.store, holder, metrics, HABITS)

    async def answered(self, meaning: np.ndarray[Any, Any] | None = None, **decided: Any) -> Any:
        """Decides, as a caller of the tenant `ours` would have it."""
        decision = decide_on(a_request(), CATALOGUE, decision_id=uuid7(), **decided)
        vector = None if meaning is None else meaning.astype(np.float32)
        with call_context(tenant_id="ours"):
            self.journal.decided(decision, a_request(), vector)
        return decision

    async def rows(self) -> list[dict[str, Any]]:
        found = await self.pool.fetch(
            "SELECT model, score, inferred, propensity FROM router.outcomes ORDER BY model"
        )
        return [dict(row) for row in found]


class _Nowhere:
    def read(self) -> Snapshot:
        raise AssertionError("is not read")


@pytest.fixture
async def parts(database_url: str) -> AsyncIterator[Parts]:
    async with open_pool(database_url, application_name="test") as pool:
        await migrate(pool, package="router_svc", schema="router")
        yield Parts(pool)


async def test_a_report_finds_a_decision_that_is_not_written_yet(parts: Parts) -> None:
    decision = await parts.answered()
    await parts.reports.report(Report("ours", decision.decision_id, 0.8))
    assert await parts.rows() == [
        {"model": "small", "score": pytest.approx(0.8), "inferred": False, "propensity": 1.0}
    ]


async def test_a_report_that_is_given_up_takes_no_decision_with_it(parts: Parts) -> None:
    decisions = [await parts.answered() for _ in range(3)]
    async with parts.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE router.decisions")
        report = Report("ours", decisions[0].decision_id, 1.0)
        hasty = asyncio.create_task(parts.reports.report(report))
        await eventually(lambda: not parts.journal._waiting)
        hasty.cancel()
        await asyncio.wait([hasty])
    for decision in decisions:
        await parts.reports.report(Report("ours", decision.decision_id, 1.0))
    assert len(await parts.rows()) == 3


async def test_learning_goes_on_after_whatever_failed(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        raise ValueError("whatever it is")

    monkeypatch.setattr(parts.trainer, "turn", turn)
    monkeypatch.setattr(parts.trainer, "_habits", replace(HABITS, every_seconds=0.001))
    running = asyncio.create_task(parts.trainer.run())
    await eventually(lambda: turns > 1)
    running.cancel()


async def test_a_training_that_loses_the_record_says_so(parts: Parts) -> None:
    async def cut(*_: object) -> NewVersion:
        await parts.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE state = 'idle in transaction' AND datname = current_database()"
        )
        return NewVersion(Judgement(0, 0.0, 0.0, 0.0, accepted=False, told=""), 0, [], b"")

    with pytest.raises(StepwireError) as caught:
        await parts.store.train(cut, limit=10)
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_what_is_put_to_use_during_a_training_stays_in_use(parts: Parts) -> None:
    choices = []

    async def trained(*_: object) -> NewVersion:
        chosen = asyncio.create_task(parts.store.activate(0))
        choices.append(chosen)

        async def done_or_waiting() -> bool:
            found = await parts.pool.fetchval(
                "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                " WHERE NOT l.granted AND d.datname = current_database()"
            )
            return chosen.done() or bool(found)

        await eventually(done_or_waiting)
        return NewVersion(Judgement(20, 0.1, 0.5, 0.0, accepted=True, told=""), 99, [], b"x")

    assert await parts.store.train(trained, limit=10) is not None
    await choices[0]
    assert await parts.store.active() is None


async def test_a_report_through_an_instance_that_does_not_know_who_answered(parts: Parts) -> None:
    decision = await parts.answered()
    await parts.journal.flush()
    await Parts(parts.pool).reports.report(Report("ours", decision.decision_id, 1.0))
    parts.journal.observed(decision, LARGE, [])
    await parts.journal.flush()
    assert await parts.rows() == [
        {"model": "large", "score": 1.0, "inferred": False, "propensity": None}
    ]


async def test_a_later_report_takes_the_place_of_an_earlier_one(parts: Parts) -> None:
    decision = await parts.answered()
    await parts.reports.report(Report("ours", decision.decision_id, 1.0))
    await parts.reports.report(Report("ours", decision.decision_id, 0.4, "large"))
    assert await parts.rows() == [
        {"model": "large", "score": pytest.approx(0.4), "inferred": False, "propensity": None},
        {"model": "small", "score": 0.0, "inferred": True, "propensity": 1.0},
    ]


async def test_the_report_is_of_the_model_that_answered(parts: Parts) -> None:
    early, late = await parts.answered(), await parts.answered()
    parts.journal.observed(early, LARGE, [])
    await parts.journal.flush()
    parts.journal.observed(late, LARGE, [])
    for decision in (early, late):
        await parts.reports.report(Report("ours", decision.decision_id, 1.0))
    assert {row["model"] for row in await parts.rows()} == {"large"}


@pytest.mark.parametrize("tenant", ["ours", "theirs"])
async def test_only_ones_own_decisions_are_known(parts: Parts, tenant: str) -> None:
    decision = await parts.answered()
    decision_id = decision.decision_id if tenant == "theirs" else uuid7()
    with pytest.raises(StepwireError) as caught:
        await parts.reports.report(Report(tenant, decision_id, 1.0))
    assert caught.value.reason is Reason.DECISION_NOT_FOUND
    assert caught.value.metadata == {"decision_id": str(decision_id)}


async def test_an_alternative_must_be_of_the_catalogue(parts: Parts) -> None:
    decision = await parts.answered()
    with pytest.raises(StepwireError, match="no model of the catalogue"):
        await parts.reports.report(Report("ours", decision.decision_id, 1.0, "huge"))


async def learn(parts: Parts, count: int) -> None:
    """Reports outcomes of `small` that its meanings tell in advance."""
    draw = np.random.default_rng(5)
    for _ in range(count):
        meaning = draw.normal(size=DIMENSIONS)
        meaning /= np.linalg.norm(meaning)
        decision = await parts.answered(meaning)
        await parts.journal.flush()
        score = float(draw.random() < 1 / (1 + np.exp(-8 * meaning[0])))
        await parts.reports.report(Report("ours", decision.decision_id, score))


async def test_a_better_version_is_trained_used_and_taken_out_of_use(parts: Parts) -> None:
    await learn(parts, 160)
    await parts.trainer.turn()
    (first,) = await parts.trainer.versions()
    assert first.state is PredictorState.ACTIVE, first.judgement.told
    assert first.judgement.log_loss < first.judgement.log_loss_before
    # Of all versions together they would be hundreds of megabytes.
    assert first.parameters is None
    used = parts.trainer.predictor()
    assert used is not None
    assert used.version == first.version
    assert list(used.heads) == ["small"]

    # Nothing new: no training of its own accord, and a bidden one is no better.
    await parts.trainer.turn()
    assert len(await parts.trainer.versions()) == 1
    second = await parts.trainer.train()
    assert second.state is PredictorState.REFUSED
    assert parts.trainer.predictor() is used

    another = Parts(parts.pool)
    await another.trainer.catch_up()
    assert another.trainer.predictor() is not None
    await parts.trainer.activate(0)
    assert parts.trainer.predictor() is None
    await another.trainer.catch_up()
    assert another.trainer.predictor() is None
    await parts.trainer.activate(first.version)
    assert parts.trainer.predictor() is not None


@pytest.mark.parametrize("refused", [True, False])
async def test_a_version_that_cannot_be_used_is_refused(parts: Parts, *, refused: bool) -> None:
    version = (await parts.trainer.train()).version if refused else 77
    with pytest.raises(StepwireError) as caught:
        await parts.trainer.activate(version)
    assert caught.value.reason is Reason.PREDICTOR_NOT_FOUND


async def test_one_trains_at_a_time(parts: Parts) -> None:
    async with parts.pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtext('router.predictors'))")
        with pytest.raises(StepwireError) as caught:
            await parts.trainer.train()
    assert caught.value.reason is Reason.OVERLOADED


async def test_what_is_old_is_deleted(parts: Parts) -> None:
    decision = await parts.answered()
    await parts.reports.report(Report("ours", decision.decision_id, 1.0))
    kept = timedelta(hours=1)
    assert await parts.store.purge(decisions=kept, outcomes=kept, limit=10) == 0
    # From the future's place, an hour ago is later than now.
    ahead = timedelta(hours=-1)
    assert await parts.store.purge(decisions=ahead, outcomes=ahead, limit=10) == 2
    assert await parts.rows() == []
