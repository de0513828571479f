"""What learning needs of the world."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from router_svc.learning.records import Decided, NewVersion, Outcomes, Report, Version

Train = Callable[[Outcomes, Version | None], Awaitable[NewVersion]]
"""Trains a version from outcomes, and compares it with the one in use."""


class Reports(Protocol):
    """Takes reports of outcomes."""

    async def report(self, report: Report) -> None:
        """Keeps a report, in place of an earlier one of the same decision.

        Raises:
            StepwireError: FIELD_INVALID when the alternative is in no catalogue;
                DECISION_NOT_FOUND.
        """
        ...


class LearningStore(Protocol):
    """Keeps decisions, outcomes and versions of the predictor."""

    async def remember(
        self, decided: Sequence[Decided], answered: Sequence[tuple[UUID, str]]
    ) -> None:
        """Keep decisions, and which models answered to earlier ones."""

    async def report(self, report: Report) -> bool:
        """Keep what was reported, in place of an earlier report; False for an unknown decision."""

    async def outcomes(self, *, limit: int) -> Outcomes:
        """Return the newest outcomes that can be learnt from."""

    async def new_outcomes(self) -> int:
        """Count the outcomes that were reported since the last training."""

    async def train(self, train: Train, *, limit: int) -> Version | None:
        """Have a version trained from the newest outcomes, and keep it, in use if accepted.

        Returns:
            The version; None when another instance trains one at this moment.
        """

    async def versions(self, *, limit: int) -> Sequence[Version]:
        """Return the newest versions, the newest first, without parameters."""

    async def active(self) -> Version | None:
        """Return the version in use."""

    async def active_version(self) -> int:
        """Return the number of the version in use; 0 when none is."""

    async def activate(self, version: int) -> Version | None:
        """Put a version to use, or none for 0; after a training that is under way.

        Raises:
            StepwireError: PREDICTOR_NOT_FOUND.
        """

    async def purge(self, *, decisions: timedelta, outcomes: timedelta, limit: int) -> int:
        """Delete what is older; return how many rows went."""
