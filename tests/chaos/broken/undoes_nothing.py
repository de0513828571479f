"""Compensation broken: a failed task says that all is undone, and nothing is."""

from executor_svc.engine.outcomes import Compensated
from executor_svc.work.compensator import Compensator


def apply():
    async def run(self, graph, attempt):
        return Compensated([])

    Compensator.run = run
