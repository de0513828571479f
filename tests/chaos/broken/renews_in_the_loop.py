"""The lease broken: it is renewed only when the worker's event loop has time for it."""

import asyncio

from executor_svc.work.lease import Lease


def apply():
    renew = Lease._renew

    async def renew_in_turn(self, store):
        turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._main)
        async with asyncio.timeout(self._renew_every):
            await asyncio.wrap_future(turn)
        await renew(self, store)

    Lease._renew = renew_in_turn
