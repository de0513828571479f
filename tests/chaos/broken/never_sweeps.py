"""P4 broken: nobody looks for what was lost."""

from executor_svc.sweeper import Sweeper


def apply():
    async def sweep(self):
        pass

    Sweeper._sweep = sweep
