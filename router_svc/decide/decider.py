"""Decides which model answers a request."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from router_svc.catalogue.holder import CatalogueHolder, Snapshot
from router_svc.decide.choice import Policy, choose
from router_svc.decide.explain import unknown_model
from router_svc.decide.features import features_of
from router_svc.decide.kind import kind_of
from router_svc.decide.meaning import Meaning, Meanings
from router_svc.decide.passage import find_passage
from router_svc.decide.ports import (
    Allowance,
    AlwaysReady,
    Availability,
    Forgetful,
    Journal,
    Predictor,
    Unlimited,
)
from router_svc.decide.records import Decision
from router_svc.decide.view import Learnt, View
from router_svc.metrics import RouterMetrics
from router_svc.requests.records import Request
from router_svc.tokens.families import Counted, TokenCounters, length_of, most_tokens
from stepwire.errors import StepwireError
from stepwire.ids import uuid7

# Longer requests are counted in a thread, since an exact count of so much text takes
# milliseconds.
INLINE_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a decision looks at beside catalogue and request.

    Attributes:
        availability: How models stand.
        allowance: What budgets have left.
        meanings: Turns texts into vectors, and compares them with examples; None to go
            by the text alone.
        predictor: Returns the predictor in use, if there is one.
        journal: Remembers decisions.
    """

    availability: Availability = field(default_factory=AlwaysReady)
    allowance: Allowance = field(default_factory=Unlimited)
    meanings: Meanings | None = None
    predictor: Callable[[], Predictor | None] = lambda: None
    journal: Journal = field(default_factory=Forgetful)


class Decider:
    """Decides which model answers a request, and says why.

    Args:
        holder: Has the catalogue.
        counters: Count tokens.
        surroundings: What else is looked at.
        metrics: Where decisions are counted.
        policy: What the operator decides.
    """

    def __init__(
        self,
        holder: CatalogueHolder,
        counters: TokenCounters,
        surroundings: Surroundings,
        *,
        metrics: RouterMetrics,
        policy: Policy,
    ) -> None:
        self._holder = holder
        self._counters = counters
        self._around = surroundings
        self._metrics = metrics
        self._policy = policy

    async def decide(self, request: Request) -> Decision:
        """Returns which models may answer `request`, best first.

        Raises:
            StepwireError: MODEL_NOT_FOUND when the request names a model that the
                catalogue does not have; NO_ELIGIBLE_MODEL when every model is rejected.
        """
        try:
            decision = await self._decide(request, self._holder.current)
        except StepwireError as error:
            self._metrics.decided(model="", outcome=error.reason.value)
            raise
        self._metrics.decided(model=decision.chosen.model.name, outcome="chosen")
        return decision

    async def _decide(self, request: Request, snapshot: Snapshot) -> Decision:
        if request.model and snapshot.catalogue.find(request.model) is None:
            raise unknown_model(request.model)
        counts = await self._count(request, snapshot)
        # Its meaning matters only where there is a choice.
        wanted = not request.model and len(snapshot.catalogue.models) > 1
        meanings = self._around.meanings if wanted else None
        meaning = None if meanings is None else await meanings.of(request.question)
        learnt = self._predict(request, meaning, snapshot)
        view = View(
            request=request,
            counts=counts,
            most_tokens=most_tokens(request),
            has_text=find_passage(request) is not None,
            kind=kind_of(request, None if meaning is None else meaning.nearness),
            learnt=learnt,
            moment=datetime.now(UTC),
            question_tokens=self._counters.estimate(request.question),
            hardness=None if meaning is None else meaning.hardness,
            blind=meanings is not None and meaning is None,
        )
        decision = choose(
            view,
            snapshot,
            availability=self._around.availability,
            allowance=self._around.allowance,
            policy=self._policy,
            decision_id=uuid7(),
        )
        vector = None if meaning is None else meaning.vector
        self._around.journal.decided(decision, request, vector)
        return decision

    async def _count(self, request: Request, snapshot: Snapshot) -> dict[str, Counted]:
        names = {model.tokenizer for model in snapshot.catalogue.models}
        if length_of(request) <= INLINE_CHARACTERS:
            return {name: self._counters.count(name, request) for name in names}
        return {
            name: await asyncio.to_thread(self._counters.count, name, request) for name in names
        }

    def _predict(
        self, request: Request, meaning: Meaning | None, snapshot: Snapshot
    ) -> Learnt | None:
        """Returns the predicted qualities, when every model of the catalogue has one."""
        predictor = self._around.predictor()
        if predictor is None or meaning is None:
            return None
        predicted = predictor.predict(features_of(request), meaning.vector)
        if any(model.name not in predicted for model in snapshot.catalogue.models):
            return None
        return Learnt(predicted, predictor.version)
