"""What a worker knows of an attempt that it runs."""

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from executor_svc.engine.records import Attempt, StepAddress
from executor_svc.engine.scope import Memo
from executor_svc.work.runner import Ended


@dataclass(eq=False, slots=True)
class Held:
    """An attempt that this worker runs.

    Attributes:
        begun: when it began, by the loop's clock.
        announced: whether its start is recorded; None while that is under way.
        ended: how it ended, while it waits for that.
    """

    session_id: UUID
    attempt: Attempt
    memo: Memo
    begun: float
    task: "asyncio.Task[None] | None" = field(default=None)
    announced: bool | None = False
    ended: Ended | None = None

    @property
    def address(self) -> StepAddress:
        """The step."""
        return StepAddress(self.attempt.task.task_id, self.attempt.step_id)

    @property
    def runs(self) -> bool:
        """Whether it is at work still, and could be stopped."""
        return self.task is not None and not self.task.done()
