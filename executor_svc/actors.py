"""Dramatiq's side of a worker: an actor per queue that hands its steps over.

The actor does not run steps: it waits for room, hands the step ids to the event loop and
returns, so that the message is acknowledged at once and a long step never meets
RabbitMQ's consumer timeout. A crash in between loses only a message, and the sweeper
repeats it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import dramatiq

from executor_svc.records import StepRef
from executor_svc.slots import Slots
from stepwire.mq import Topology

logger = logging.getLogger(__name__)

Offer = Callable[[Sequence[StepRef]], None]

# Threads only hand over. Two let one wait for room while the other acknowledges.
THREADS = 2


class Actors:
    """The actors of one worker process, and the Dramatiq worker that runs them."""

    def __init__(
        self,
        broker: dramatiq.Broker,
        topology: Topology,
        queues: Sequence[str],
        *,
        slots: Slots,
        offer: Offer,
    ) -> None:
        """Declare an actor for each of `queues`; `offer` is called on this event loop."""
        self._broker = broker
        self._slots = slots
        self._offer = offer
        self._loop = asyncio.get_running_loop()
        for queue in queues:
            dramatiq.Actor(
                partial(self._hand_over, queue),
                broker=broker,
                actor_name=topology.actor(queue),
                queue_name=topology.queue(queue),
                priority=0,
                options={},
            )
        self._worker = dramatiq.Worker(
            broker, queues={topology.queue(queue) for queue in queues}, worker_threads=THREADS
        )

    async def start(self) -> None:
        """Begin to take messages."""
        await asyncio.to_thread(self._worker.start)

    async def stop(self, *, timeout_seconds: float) -> None:
        """Take no more messages; those not handed over go back to their queue."""
        self._slots.close()
        await asyncio.to_thread(self._worker.stop, timeout=int(timeout_seconds * 1000))
        await asyncio.to_thread(self._broker.close)

    def _hand_over(self, queue: str, bundle: Sequence[tuple[str, str, int]]) -> None:
        refs = [
            StepRef(UUID(task_id), step_id, attempt, queue) for task_id, step_id, attempt in bundle
        ]
        if not self._slots.take(len(refs)):
            raise dramatiq.middleware.Shutdown
        self._loop.call_soon_threadsafe(self._offer, refs)
