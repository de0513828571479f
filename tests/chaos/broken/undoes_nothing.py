"""Compensation broken: a failed task says that all is undone, and nothing is."""

from executor_svc.compensator import Compensator
from executor_svc.outcomes import Compensated


def apply():
    async def run(self, graph, attempt):
        return Compensated([])

    Compensator.run = run
