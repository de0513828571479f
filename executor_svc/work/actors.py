"""Dramatiq's side of a worker: an actor per queue that hands its steps over.

The actor does not run steps: it waits for room, hands the step ids to the event loop and
returns, so that the message is acknowledged at once and a long step never meets
RabbitMQ's consumer timeout. A crash in between loses only a message, and the sweeper
repeats it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import dramatiq

from executor_svc.engine.records import StepRef
from executor_svc.waking.wire import read_bundle
from executor_svc.work.slots import Slots
from stepwire.failpoints import failpoint_in_thread
from stepwire.mq import Topology

logger = logging.getLogger(__name__)

Offer = Callable[[Sequence[StepRef]], None]

# A thread only hands over. While it waits for room there is none for other messages either.
THREADS = 1
# Messages that a worker holds per queue: few, so that they do not wait here while another
# worker has room; enough to acknowledge several at a time.
PREFETCH = 8
# How often they look whether they are to stop.
LOOK_MILLISECONDS = 200
# Once per thread that closes connections of its own, and more.
MOST_TRIES = 10


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
        decline: Offer,
    ) -> None:
        """Declare an actor for each of `queues`.

        On this event loop, `offer` is called with steps that hold their slots, and `decline`
        with steps that got none because the worker stops.
        """
        self._broker = broker
        self._slots = slots
        self._offer = offer
        self._decline = decline
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
            broker,
            queues={topology.queue(queue) for queue in queues},
            worker_threads=THREADS,
            worker_timeout=LOOK_MILLISECONDS,
        )
        self._worker.queue_prefetch = PREFETCH

    async def start(self) -> None:
        """Begin to take messages."""
        await asyncio.to_thread(self._worker.start)

    async def stop(self, *, timeout_seconds: float) -> None:
        """Take no more messages; those not yet taken up go back to their queue."""
        self._slots.close()
        await asyncio.to_thread(self._worker.stop, timeout=int(timeout_seconds * 1000))
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        """Close all connections: threads that did not stop in time may do so with their own."""
        for _ in range(MOST_TRIES):
            # Dramatiq goes through a set that they take theirs from.
            with suppress(RuntimeError):
                self._broker.close()
                return
        logger.warning("connections to RabbitMQ were left open")

    def _hand_over(self, queue: str, bundle: object) -> None:
        failpoint_in_thread("message.taken")
        try:
            refs = read_bundle(bundle, queue=queue)
        except ValueError as error:
            logger.warning(
                "a message was dropped: it is not one of ours",
                extra={"queue": queue, "cause": str(error)},
            )
            return
        taken = self._slots.take(len(refs))
        self._loop.call_soon_threadsafe(self._offer if taken else self._decline, refs)
        failpoint_in_thread("message.handed_over")
