"""Counts what commits say of tasks."""

import re
from typing import Final

from executor_svc.engine.ports import Effects
from executor_svc.metrics import TaskMetrics
from executor_svc.tasks.task_ids import created_at
from stepwire.api.executor.v1.task_pb2 import TaskEventType as Type

_RESULTS: Final = {
    str(int(Type.TASK_EVENT_TYPE_TASK_SUCCEEDED)): "succeeded",
    str(int(Type.TASK_EVENT_TYPE_TASK_FAILED)): "failed",
    str(int(Type.TASK_EVENT_TYPE_TASK_CANCELLED)): "cancelled",
}
# Events of tasks name no step; a quotation mark within a text would follow a backslash.
_END: Final = re.compile(rf'\[({"|".join(_RESULTS)}),""')
_RETRYING: Final = f'[{int(Type.TASK_EVENT_TYPE_STEP_RETRYING)},"'


class Tally:
    """Hears of every commit of this process; see `Announcer.listen`."""

    def __init__(self, metrics: TaskMetrics) -> None:
        self._metrics = metrics

    def heard(self, effects: Effects) -> None:
        """Count the ends and the further attempts that a commit has recorded.

        A task that was retried after its end ends again, and is counted again.
        """
        for batch in effects.events:
            if end := _END.search(batch.events):
                after = batch.recorded_at - created_at(batch.task_id)
                self._metrics.ended(_RESULTS[end[1]], after)
            if again := batch.events.count(_RETRYING):
                self._metrics.retried(again)
