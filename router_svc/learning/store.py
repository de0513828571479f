"""LearningStore on Postgres."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import numpy as np
import orjson
from numpy.typing import NDArray

from router_svc.decide.features import VERSION as FEATURES_VERSION
from router_svc.decide.ports import Vector
from router_svc.learning.ports import Train
from router_svc.learning.records import (
    Decided,
    Floats,
    Judgement,
    NewVersion,
    Outcomes,
    PredictorState,
    Report,
    Version,
)
from stepwire.db import load_queries, retryable
from stepwire.errors import Reason, StepwireError

queries = load_queries("router_svc", "sql/learning.sql")

# How a vector is kept: a meaning needs no more than three digits.
_FEATURES: Final = np.dtype("<f4")
_MEANING: Final = np.dtype("<f2")


class PostgresLearningStore:
    """See `router_svc.learning.ports.LearningStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def remember(
        self, decided: Sequence[Decided], answered: Sequence[tuple[UUID, str]]
    ) -> None:
        if decided:
            await self._pool.execute(queries.add_decisions, *_columns(decided))
        if answered:
            ids, models = zip(*answered, strict=True)
            await self._pool.execute(queries.note_answers, ids, models)
            await self._pool.execute(queries.correct_outcomes, ids)

    @retryable()
    async def report(self, report: Report) -> bool:
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                queries.lock_decision, report.tenant_id, report.decision_id
            )
            if row is None:
                return False
            await connection.execute(queries.forget_outcomes, report.decision_id)
            for model, score, inferred in _scores(row["answered_by"], report):
                await connection.execute(
                    queries.add_outcome,
                    report.decision_id,
                    model,
                    report.tenant_id,
                    score,
                    inferred,
                    row["propensity"] if model == row["model"] else None,
                    row["features_version"],
                    row["features"],
                    row["meaning"],
                )
            return True

    @retryable()
    async def outcomes(self, *, limit: int) -> Outcomes:
        rows = await self._pool.fetch(queries.recent_outcomes, FEATURES_VERSION, limit)
        return _outcomes_of(rows)

    @retryable()
    async def new_outcomes(self) -> int:
        count: int = await self._pool.fetchval(queries.count_outcomes)
        return count

    # A training takes long, and is tried again by its own loop.
    @retryable(attempts=1)
    async def train(self, train: Train, *, limit: int) -> Version | None:
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(queries.try_training):
                return None
            rows = await connection.fetch(queries.recent_outcomes, FEATURES_VERSION, limit)
            used = await connection.fetchrow(queries.active_predictor)
            new = await train(_outcomes_of(rows), None if used is None else _version_of(used))
            if new.judgement.accepted:
                await connection.execute(queries.retire_predictor)
            row = await connection.fetchrow(queries.add_predictor, *_new_columns(new))
            assert row is not None
            return _version_of(row)

    @retryable()
    async def versions(self, *, limit: int) -> Sequence[Version]:
        rows = await self._pool.fetch(queries.list_predictors, limit)
        return [_version_of(row) for row in rows]

    @retryable()
    async def active(self) -> Version | None:
        row = await self._pool.fetchrow(queries.active_predictor)
        return None if row is None else _version_of(row)

    @retryable()
    async def active_version(self) -> int:
        version: int | None = await self._pool.fetchval(queries.active_version)
        return version or 0

    @retryable()
    async def activate(self, version: int) -> Version | None:
        async with self._pool.acquire() as connection, connection.transaction():
            # What is being trained would be put to use over what is chosen here.
            await connection.execute(queries.await_training)
            await connection.execute(queries.retire_predictor)
            if version == 0:
                return None
            row = await connection.fetchrow(queries.activate_predictor, version)
            if row is None:
                raise StepwireError(
                    Reason.PREDICTOR_NOT_FOUND,
                    f"there is no version {version} of the predictor that could be used",
                    metadata={"version": str(version)},
                )
            return _version_of(row)

    @retryable()
    async def purge(self, *, decisions: timedelta, outcomes: timedelta, limit: int) -> int:
        oldest = _first_id_of(datetime.now(UTC) - decisions)
        gone = await self._pool.execute(queries.purge_decisions, oldest, limit)
        also = await self._pool.execute(queries.purge_outcomes, outcomes, limit)
        return int(gone.split()[-1]) + int(also.split()[-1])


def _first_id_of(moment: datetime) -> UUID:
    """Returns an id below all those that were made since `moment`."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _scores(answered_by: str, report: Report) -> list[tuple[str, float, bool]]:
    """Returns what a report says of each model: its score, and whether that is inferred."""
    alternative = report.chosen_alternative
    if not alternative or alternative == answered_by:
        return [(answered_by, report.score, False)]
    return [(alternative, report.score, False), (answered_by, 0.0, True)]


def _columns(decided: Sequence[Decided]) -> tuple[Any, ...]:
    def column(name: str) -> list[Any]:
        return [getattr(each, name) for each in decided]

    return (
        column("decision_id"),
        column("tenant_id"),
        column("model"),
        [each.answered_by or None for each in decided],
        column("propensity"),
        column("predictor_version"),
        column("catalogue_version"),
        [orjson.dumps(each.candidates).decode() for each in decided],
        FEATURES_VERSION,
        [each.features.astype(_FEATURES).tobytes() for each in decided],
        [_packed(each.meaning) for each in decided],
    )


def _packed(meaning: Vector | None) -> bytes | None:
    return None if meaning is None else meaning.astype(_MEANING).tobytes()


def _outcomes_of(rows: Sequence[asyncpg.Record]) -> Outcomes:
    # Meanings by another model than the newest say nothing beside it.
    rows = [row for row in rows if len(row["meaning"]) == len(rows[0]["meaning"])]
    features = [np.frombuffer(row["features"], _FEATURES) for row in rows]
    meanings = [np.frombuffer(row["meaning"], _MEANING) for row in rows]
    return Outcomes(
        decisions=[row["decision_id"] for row in rows],
        models=[row["model"] for row in rows],
        scores=np.array([row["score"] for row in rows], dtype=np.float64),
        features=_matrix(features),
        meanings=_matrix(meanings),
    )


def _matrix(rows: Sequence[NDArray[np.floating[Any]]]) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else 0)


def _new_columns(new: NewVersion) -> tuple[Any, ...]:
    judged = new.judgement
    state = PredictorState.ACTIVE if judged.accepted else PredictorState.REFUSED
    return (
        state.value,
        new.outcomes,
        judged.held_out,
        judged.log_loss,
        judged.log_loss_before,
        judged.calibration_error,
        list(new.models),
        judged.told,
        new.parameters if judged.accepted else None,
    )


def _version_of(row: asyncpg.Record) -> Version:
    state = PredictorState(row["state"])
    return Version(
        version=row["version"],
        state=state,
        outcomes=row["outcomes"],
        judgement=Judgement(
            held_out=row["held_out"],
            log_loss=row["log_loss"],
            log_loss_before=row["log_loss_before"],
            calibration_error=row["calibration_error"],
            accepted=state is not PredictorState.REFUSED,
            told=row["explanation"],
        ),
        models=row["models"],
        parameters=row["parameters"],
        created_at=row["created_at"],
    )
