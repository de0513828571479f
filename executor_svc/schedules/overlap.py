"""What a schedule does with firings while its last task runs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from executor_svc.schedules.records import OverlapPolicy


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of firings.

    Attributes:
        starts: Those that create a task now.
        cancels: Whether the last task is cancelled before.
        buffered: The one that waits for the end of the last task.
        skipped: Those of which nothing comes.
    """

    starts: Sequence[datetime] = ()
    cancels: bool = False
    buffered: datetime | None = None
    skipped: Sequence[datetime] = ()


def decide(
    policy: OverlapPolicy,
    nominals: Sequence[datetime],
    *,
    running: bool,
    buffered: datetime | None = None,
) -> Decision:
    """Decide what becomes of firings that are due, oldest first.

    Args:
        policy: What the schedule's owner wants.
        nominals: The firings.
        running: Whether the last task has not ended.
        buffered: The firing that has waited for its end.
    """
    queue = list(nominals) if buffered is None else [buffered, *nominals]
    match policy:
        case OverlapPolicy.ALLOW:
            return Decision(starts=queue)
        case OverlapPolicy.CANCEL_OTHER:
            # All but the newest would be cancelled at once.
            return Decision(starts=queue[-1:], cancels=running and bool(queue), skipped=queue[:-1])
        case OverlapPolicy.SKIP:
            free = 0 if running else 1
            return Decision(starts=queue[:free], skipped=queue[free:])
        case OverlapPolicy.BUFFER_ONE:
            free = 0 if running else 1
            waiting = queue[free : free + 1]
            return Decision(
                starts=queue[:free],
                buffered=waiting[0] if waiting else None,
                skipped=queue[free + 1 :],
            )
