"""Remembers decisions without making them wait."""

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from router_svc.catalogue.models import Model
from router_svc.decide.features import features_of
from router_svc.decide.ports import Vector
from router_svc.decide.records import Decision
from router_svc.generate.records import FailedTry
from router_svc.learning.metrics import LearningMetrics
from router_svc.learning.ports import LearningStore
from router_svc.learning.records import Decided
from router_svc.requests.records import Request
from stepwire.call import current_call
from stepwire.errors import StepwireError

_logger = logging.getLogger(__name__)

MAX_WAITING: Final = 20_000
"""Decisions that wait to be written; more are forgotten rather than kept in memory."""
MAX_BATCH: Final = 64
EVERY_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Noted:
    tenant_id: str
    decision: Decision
    request: Request
    meaning: Vector | None


class DecisionJournal:
    """A `Journal` and an `Observer` that writes in batches, behind the calls.

    Args:
        store: Keeps the decisions.
        metrics: Counts those that had to be forgotten.
    """

    def __init__(self, store: LearningStore, metrics: LearningMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._waiting: deque[_Noted] = deque()
        self._answered: dict[UUID, str] = {}
        self._writing = asyncio.Lock()
        self._flushes: set[asyncio.Task[None]] = set()

    def decided(self, decision: Decision, request: Request, meaning: Vector | None) -> None:
        """See `Journal`."""
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.forgotten(1)
            return
        self._waiting.append(_Noted(current_call().tenant_id, decision, request, meaning))

    def observed(
        self, decision: Decision, answered: Model | None, failed: Sequence[FailedTry]
    ) -> None:
        """See `Observer`: which model answered matters where it was not the one decided on."""
        del failed
        if answered is None or answered.name == decision.chosen.model.name:
            return
        if len(self._answered) < MAX_WAITING:
            self._answered[decision.decision_id] = answered.name

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Writes all that waits. What cannot be written is forgotten, and said so.

        It goes on when its caller leaves, whose decisions are not the only ones.
        """
        writing = asyncio.create_task(self._flush(), context=contextvars.Context())
        self._flushes.add(writing)
        writing.add_done_callback(self._flushes.discard)
        await asyncio.shield(writing)

    async def _flush(self) -> None:
        async with self._writing:
            answered, self._answered = self._answered, {}
            while self._waiting:
                count = min(MAX_BATCH, len(self._waiting))
                decided = []
                for noted in [self._waiting.popleft() for _ in range(count)]:
                    model = answered.pop(noted.decision.decision_id, "")
                    decided.append(_decided(noted, model))
                    # Features cost some 150 microseconds: calls get their turn in between.
                    await asyncio.sleep(0)
                await self._remember(decided, [])
            # The decisions of these were written before.
            if answered:
                await self._remember([], list(answered.items()))

    async def _remember(
        self, decided: Sequence[Decided], answered: Sequence[tuple[UUID, str]]
    ) -> None:
        try:
            await self._store.remember(decided, answered)
        except StepwireError as error:
            self._metrics.forgotten(len(decided))
            _logger.warning("decisions could not be kept", extra={"why": str(error)})
        except Exception:
            # Whatever one of them holds, the next ones are written.
            self._metrics.forgotten(len(decided))
            _logger.exception("decisions cannot be kept")


def _decided(noted: _Noted, answered_by: str) -> Decided:
    decision = noted.decision
    return Decided(
        decision_id=decision.decision_id,
        tenant_id=noted.tenant_id,
        model=decision.chosen.model.name,
        answered_by=answered_by,
        propensity=decision.propensity,
        predictor_version=decision.predictor_version,
        catalogue_version=decision.catalogue_version,
        candidates=[
            (each.model.name, each.quality, each.cost_micro_usd) for each in decision.tries
        ],
        features=features_of(noted.request),
        meaning=noted.meaning,
    )
