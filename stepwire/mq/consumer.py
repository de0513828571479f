"""How Dramatiq takes messages from RabbitMQ here: acknowledged several at a time.

Dramatiq's own consumer acknowledges each message by itself, for which the thread that
waits for messages is woken each time. Here what was handled is acknowledged with the next
message that comes, with the next look after a pause, or when half of the messages that
RabbitMQ lets a consumer hold are done. A message that is handled, but not yet acknowledged
when its worker dies, comes again: as harmless as any doubled one.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pika
from dramatiq import DecodeError, Message, MessageProxy
from dramatiq.broker import Consumer
from dramatiq.errors import ConnectionClosed
from pika.exceptions import AMQPError, ChannelClosedByBroker

logger = logging.getLogger(__name__)


NOT_FOUND = 404


class Taken(MessageProxy):
    """A message that was taken from a queue.

    Attributes:
        consumer: who took it.
        tag: its number on the consumer's channel.
    """

    def __init__(self, message: "Message[Any]", consumer: Consumer, tag: int) -> None:
        super().__init__(message)
        self.consumer = consumer
        self.tag = tag


class QueueConsumer(Consumer):
    """Takes the messages of one queue.

    One thread iterates and closes; any thread acknowledges.
    """

    def __init__(
        self,
        parameters: pika.ConnectionParameters,
        queue: str,
        *,
        prefetch: int,
        look_seconds: float,
        on_missing: Callable[[], None],
    ) -> None:
        """Connect, and ask for messages.

        Args:
            parameters: where RabbitMQ is.
            queue: the queue.
            prefetch: most messages that are with this consumer and not acknowledged.
            look_seconds: how long to wait for a message before None is given.
            on_missing: called when RabbitMQ says that there is no such queue.

        Raises:
            ConnectionClosed: RabbitMQ does not answer.
        """
        self._on_missing = on_missing
        self._most_done = max(1, prefetch // 2)
        self._lock = threading.Lock()
        # Tags of messages that RabbitMQ counts as ours: at work, handled, and refused.
        self._open: set[int] = set()
        self._handled: set[int] = set()
        self._refused: set[int] = set()
        with _closed():
            self._connection = pika.BlockingConnection(parameters)
            self._channel = self._connection.channel()
            self._channel.basic_qos(prefetch_count=prefetch)
            self._incoming = self._channel.consume(queue, inactivity_timeout=look_seconds)

    def __next__(self) -> MessageProxy | None:
        with _closed():
            self._settle()
            try:
                method, _, body = next(self._incoming)
            except ChannelClosedByBroker as error:
                if error.reply_code == NOT_FOUND:
                    self._on_missing()
                raise
        if method is None:
            return None
        tag = method.delivery_tag
        try:
            message = Message.decode(body)
        except (DecodeError, TypeError):
            logger.warning("a message was dropped: it is none of Dramatiq's")
            with self._lock:
                self._refused.add(tag)
            return None
        with self._lock:
            self._open.add(tag)
        return Taken(message, self, tag)

    def ack(self, message: MessageProxy) -> None:
        """Have a message removed from the queue, soon."""
        self._finish(message, self._handled)

    def nack(self, message: MessageProxy) -> None:
        """Have a message moved to the queue of dead ones, soon."""
        self._finish(message, self._refused)

    def close(self) -> None:
        """Acknowledge what was handled, and disconnect; the rest goes back to the queue."""
        with _closed():
            if self._channel.is_open:
                self._settle()
                self._channel.close()
            if self._connection.is_open:
                self._connection.close()

    def _finish(self, message: MessageProxy, among: set[int]) -> None:
        assert isinstance(message, Taken)
        if message.consumer is not self:
            # Its connection was lost, and RabbitMQ has sent the message again.
            return
        with self._lock:
            self._open.remove(message.tag)
            among.add(message.tag)
            is_due = len(self._handled) + len(self._refused) >= self._most_done
        if is_due:
            # The thread that takes messages may wait for one that RabbitMQ holds back. If
            # the connection is lost, there is nobody to tell any more.
            with suppress(AMQPError):
                self._connection.add_callback_threadsafe(self._settle)

    def _settle(self) -> None:
        """Tell RabbitMQ what was handled; in the thread that takes messages."""
        with self._lock:
            first_open = min(self._open, default=None)
            handled = {tag for tag in self._handled if first_open is None or tag < first_open}
            self._handled -= handled
            refused = sorted(self._refused)
            self._refused.clear()
        for tag in refused:
            self._channel.basic_nack(tag, requeue=False)
        if handled:
            # All up to this one are handled, or refused already.
            self._channel.basic_ack(max(handled), multiple=True)


@contextmanager
def _closed() -> Iterator[None]:
    """Turn what pika raises when RabbitMQ is away into what Dramatiq expects then."""
    try:
        yield
    except (AMQPError, AssertionError, OSError) as error:
        raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]
