"""What the account of usage needs of the world."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from router_svc.budgets.records import Alarm
from router_svc.usage.records import Charge, Question, UsageSum


class UsageStore(Protocol):
    """Keeps what was used."""

    async def write(self, charges: Sequence[Charge]) -> Sequence[Alarm]:
        """Charges what calls cost and writes down what they used, in one statement.

        May be repeated with the same charges.

        Returns:
            The shares of budgets that were reached by it.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE.
        """
        ...

    async def sums(self, question: Question) -> Sequence[UsageSum]:
        """Sums up usage, by time, project, task, step and model."""
        ...

    async def purge(self, *, tries: timedelta, limit: int) -> int:
        """Removes what is older, and hours that are very old; returns how many tries went."""
        ...
