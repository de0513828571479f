"""Drops, doubles and reorders messages: a consumer of the real queues that does not behave.

It competes with the workers for wakeups, and listens to the events beside the executors.
What it has sent itself carries a mark and is let be.
"""

import random
import threading
from collections import Counter
from typing import Any

import pika
import pika.exceptions

from stepwire.mq import Topology

MARK = {"x-chaos": True}
PREFETCH = 8
HELD = 6
LOOK_SECONDS = 0.05


class Meddler:
    """Meddles with messages in a thread of its own, until it is stopped.

    Attributes:
        done: how many messages were dropped, doubled, reordered; "event" counts the event
            messages that were sent a second time, late and out of order.
    """

    def __init__(self, url: str, topology: Topology, *, queue: str, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._url = url
        self._queue = topology.queue(queue)
        self._events = topology.events
        self._rng = random.Random(seed)
        self._held: list[bytes] = []
        self._held_events: list[tuple[str, bytes]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meddler")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        own = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(own, self._events, "#")
        channel.basic_consume(self._queue, self._on_wakeup)
        channel.basic_consume(own, self._on_event, auto_ack=True)
        while not self._stop.is_set():
            connection.process_data_events(LOOK_SECONDS)
        self._let_go(channel)
        connection.close()

    def _on_wakeup(self, channel: Any, deliver: Any, properties: Any, body: bytes) -> None:
        if properties.headers and properties.headers.get("x-chaos"):
            # One of its own: back to the queue, for a worker this time.
            channel.connection.sleep(LOOK_SECONDS)
            channel.basic_nack(deliver.delivery_tag, requeue=True)
            return
        match self._rng.choice(["dropped", "doubled", "reordered"]):
            case "dropped":
                self.done["dropped"] += 1
            case "doubled":
                # At once, and again when what it wakes may be over.
                self.done["doubled"] += 1
                self._send(channel, "", self._queue, body)
                self._held.append(body)
            case "reordered":
                self.done["reordered"] += 1
                self._held.append(body)
        if len(self._held) >= HELD:
            self._let_go(channel)
        channel.basic_ack(deliver.delivery_tag)

    def _on_event(self, channel: Any, deliver: Any, properties: Any, body: bytes) -> None:
        if properties.headers and properties.headers.get("x-chaos"):
            return
        self._held_events.append((deliver.routing_key, body))
        if len(self._held_events) >= HELD:
            self._let_go(channel)

    def _let_go(self, channel: Any) -> None:
        self._rng.shuffle(self._held)
        for body in self._held:
            self._send(channel, "", self._queue, body)
        self._held.clear()
        self._rng.shuffle(self._held_events)
        for key, body in self._held_events:
            self._send(channel, self._events, key, body)
        self.done["event"] += len(self._held_events)
        self._held_events.clear()

    def _send(self, channel: Any, exchange: str, key: str, body: bytes) -> None:
        channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=MARK))
