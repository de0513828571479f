"""P4 broken: nobody looks for what was lost."""

import asyncio

from executor_svc.waking.sweeper import Sweeper


def apply():
    async def run(self):
        await asyncio.Event().wait()

    Sweeper.run = run
