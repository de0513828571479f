"""One connection to RabbitMQ on the event loop: confirmed publishing, subscriptions.

Publishing does not wait for one confirm before the next message is sent, so its rate is
not bound by the round trip. When the connection is lost it is made again; messages that
were not confirmed by then fail, and whoever sent them decides.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from stepwire.errors import Reason, StepwireError

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
ANSWER_TIMEOUT_SECONDS = 10.0
CLOSE_TIMEOUT_SECONDS = 3.0
# RabbitMQ's answer to a question about a queue that is not there.
NOT_FOUND = 404
OnMessage = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A private queue bound to a topic exchange."""

    exchange: str
    keys: Sequence[str]
    on_message: OnMessage


class AmqpConnection:
    """A connection with one channel in confirm mode. Use it as a context manager.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE on entering, when RabbitMQ cannot be reached.
    """

    def __init__(self, url: str, *, name: str, publish_timeout_seconds: float = 10) -> None:
        self._parameters = pika.URLParameters(url)
        self._parameters.client_properties = {"connection_name": name}
        self._publish_timeout_seconds = publish_timeout_seconds
        self._subscriptions: list[Subscription] = []
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._unanswered: set[asyncio.Future[Any]] = set()
        self._next_tag = 1
        self._connection: AsyncioConnection | None = None
        self._channel: Any = None
        # For questions that RabbitMQ may answer by closing the channel: one at a time.
        self._side_channel: Any = None
        self._on_answer: Callable[[Any], None] = lambda _: None
        self._asking = asyncio.Lock()
        self._ready = asyncio.Event()
        self._closing = False
        self._reconnecting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._connect()
        except (AMQPError, OSError, TimeoutError) as error:
            raise rabbitmq_unavailable(error) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._connection is not None:
            await _close(self._connection)

    async def subscribe(self, exchange: str, keys: Sequence[str], on_message: OnMessage) -> None:
        """Have `on_message` called with the body of every message that has one of `keys`.

        Messages sent while the connection is down are missed.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE, when the connection is lost in between. It
                is subscribed once the connection is there again.
        """
        subscription = Subscription(exchange, keys, on_message)
        self._subscriptions.append(subscription)
        if not self._ready.is_set():
            return
        try:
            await self._bind(self._channel, subscription)
        except (AMQPError, OSError, TimeoutError) as error:
            raise rabbitmq_unavailable(error) from error

    async def publish(self, exchange: str, key: str, body: bytes, *, durable: bool) -> None:
        """Send a message; return once RabbitMQ has taken it over.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE, when it is not confirmed in time. It may
                have been sent all the same.
        """
        properties = pika.BasicProperties(
            delivery_mode=2 if durable else 1, content_type="application/json"
        )
        try:
            async with asyncio.timeout(self._publish_timeout_seconds):
                await self._ready.wait()
                tag, self._next_tag = self._next_tag, self._next_tag + 1
                confirmed = asyncio.get_running_loop().create_future()
                self._unconfirmed[tag] = confirmed
                self._channel.basic_publish(exchange, key, body, properties)
                try:
                    await confirmed
                finally:
                    if self._unconfirmed.get(tag) is confirmed:
                        del self._unconfirmed[tag]
        except (AMQPError, OSError, TimeoutError) as error:
            raise rabbitmq_unavailable(error) from error

    async def backlog(self, queue: str) -> int:
        """Count the messages that wait in a queue and are not with a consumer.

        0 for a queue that is not there.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE, at once while the connection is down.
        """
        try:
            async with self._asking:
                return await self._count(queue)
        except (AMQPError, OSError, TimeoutError) as error:
            raise rabbitmq_unavailable(error) from error

    async def _count(self, queue: str) -> int:
        connection = self._connection
        if not self._ready.is_set() or connection is None:
            raise ConnectionError("the connection is down")
        channel = self._side_channel
        if channel is None or not channel.is_open:
            channel = self._side_channel = await self._answer(
                lambda callback: connection.channel(on_open_callback=callback)
            )
            channel.add_on_close_callback(lambda _, error: self._on_answer(error))

        def declare(callback: Callable[[Any], None]) -> None:
            self._on_answer = callback
            channel.queue_declare(queue=queue, passive=True, callback=callback)

        answer = await self._answer(declare)
        if isinstance(answer, ChannelClosedByBroker) and answer.reply_code == NOT_FOUND:
            return 0
        if isinstance(answer, BaseException):
            raise answer
        return int(answer.method.message_count)

    async def _connect(self) -> None:
        """Open a connection that replaces the one there was; leave nothing behind on failure."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()

        def on_failure(_: AsyncioConnection, error: BaseException) -> None:
            if not opened.done():
                opened.set_exception(error)

        connection = AsyncioConnection(
            self._parameters,
            on_open_callback=lambda _: _resolve(opened),
            on_open_error_callback=on_failure,
            on_close_callback=self._on_close,
            custom_ioloop=loop,
        )
        self._connection = connection
        try:
            async with asyncio.timeout(self._parameters.socket_timeout):
                await opened
            await self._open_channel(connection)
        except BaseException:
            self._connection = None
            await _close(connection)
            raise

    async def _open_channel(self, connection: AsyncioConnection) -> None:
        channel = await self._answer(lambda callback: connection.channel(on_open_callback=callback))
        # RabbitMQ closes a channel for a fault; a fresh connection starts clean.
        channel.add_on_close_callback(lambda *_: connection.is_open and connection.close())
        await self._answer(channel.confirm_delivery, self._on_confirm)
        self._channel, self._next_tag = channel, 1
        for subscription in self._subscriptions:
            await self._bind(channel, subscription)
        self._ready.set()

    async def _bind(self, channel: Any, subscription: Subscription) -> None:
        await self._answer(
            channel.exchange_declare,
            exchange=subscription.exchange,
            exchange_type="topic",
            durable=True,
        )
        declared = await self._answer(channel.queue_declare, queue="", exclusive=True)
        queue = declared.method.queue
        for key in subscription.keys:
            await self._answer(
                channel.queue_bind, queue, exchange=subscription.exchange, routing_key=key
            )

        def on_message(_channel: Any, _deliver: Any, _properties: Any, body: bytes) -> None:
            try:
                subscription.on_message(body)
            except Exception:
                # An error in here would end the connection.
                logger.exception("a message was dropped", extra={"exchange": subscription.exchange})

        channel.basic_consume(queue, on_message, auto_ack=True, exclusive=True)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        tag = method.delivery_tag
        tags = [t for t in self._unconfirmed if t <= tag] if method.multiple else [tag]
        for each in tags:
            confirmed = self._unconfirmed.pop(each, None)
            if confirmed is None or confirmed.done():
                continue
            if isinstance(method, pika.spec.Basic.Ack):
                confirmed.set_result(None)
            else:
                confirmed.set_exception(ConnectionError("RabbitMQ refused the message"))

    def _on_close(self, connection: AsyncioConnection, error: BaseException) -> None:
        if connection is not self._connection:
            return
        self._ready.clear()
        self._channel = None
        for waiting in (*self._unconfirmed.values(), *self._unanswered):
            if not waiting.done():
                waiting.set_exception(ConnectionError(f"RabbitMQ went away: {error}"))
        self._unconfirmed.clear()
        if not self._closing and (self._reconnecting is None or self._reconnecting.done()):
            logger.warning("RabbitMQ went away", extra={"cause": str(error)})
            self._reconnecting = asyncio.create_task(self._reconnect(), name="amqp:reconnect")

    async def _answer(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Make an AMQP call that answers through a callback; return the answer."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_answer(answer: Any) -> None:
            if not answered.done():
                answered.set_result(answer)

        self._unanswered.add(answered)
        try:
            call(*arguments, callback=on_answer, **options)
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                return await answered
        finally:
            self._unanswered.discard(answered)

    async def _reconnect(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._closing:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            try:
                await self._connect()
            except (AMQPError, OSError, TimeoutError) as error:
                logger.info("RabbitMQ is still away", extra={"cause": str(error)})
            else:
                logger.info("RabbitMQ is back")
                return


async def _close(connection: AsyncioConnection) -> None:
    """Close a connection, whatever state it is in."""
    if connection.is_closed:
        return
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connection.add_on_close_callback(lambda *_: _resolve(closed))
    if not connection.is_closing:
        opening = not connection.is_open
        connection.close()
        if opening:
            # It has nobody to take leave of.
            return
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await closed


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def rabbitmq_unavailable(error: BaseException) -> StepwireError:
    """The error for a caller when RabbitMQ does not answer."""
    return StepwireError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"RabbitMQ does not answer: {type(error).__name__}",
        metadata={"dependency": "rabbitmq"},
    )
