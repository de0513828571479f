"""Subscriptions as one tenant sees them, and an HTTP server that gets their events."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from stepwire.api.executor.v1 import executor_service_pb2, task_pb2
from stepwire.api.executor.v1 import subscription_service_pb2 as pb
from stepwire.api.executor.v1.graph_pb2 import Graph
from stepwire.api.executor.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.call import call_context
from stepwire.rpc import open_channel
from stepwire.sdk.webhooks import Delivery, verify
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import WAIT_SECONDS, Client

LABEL = "stepwire.subscription"


def events_of(*names: str) -> list[Any]:
    return [TaskEventType.Value(f"TASK_EVENT_TYPE_TASK_{name}") for name in names]


@dataclass
class SubscriptionClient:
    """The service, and the tasks of the same tenant."""

    stub: Any
    tasks: Client

    async def call(self, method: str, request: Any) -> Any:
        with call_context(tenant_id=self.tasks.tenant):
            return await getattr(self.stub, method)(request)

    def of(self, tenant: str) -> "SubscriptionClient":
        return SubscriptionClient(self.stub, self.tasks.of(tenant))

    async def create(
        self, name: str, *, request_id: str = "", **fields: Any
    ) -> pb.CreateSubscriptionResponse:
        request = pb.CreateSubscriptionRequest(
            subscription=pb.Subscription(name=name, **fields), request_id=request_id
        )
        response: pb.CreateSubscriptionResponse = await self.call("CreateSubscription", request)
        return response

    async def webhook(self, name: str, url: str, **fields: Any) -> pb.CreateSubscriptionResponse:
        return await self.create(name, webhook=pb.Webhook(url=url), **fields)

    async def handler(self, name: str, graph: Graph, **fields: Any) -> pb.Subscription:
        task = executor_service_pb2.CreateTaskRequest(graph=graph)
        return (await self.create(name, handler=pb.Handler(task=task), **fields)).subscription

    async def get(self, name: str) -> pb.Subscription:
        request = pb.GetSubscriptionRequest(name=name)
        found: pb.Subscription = (await self.call("GetSubscription", request)).subscription
        return found

    async def update(
        self, name: str, *paths: str, request_id: str = "", **fields: Any
    ) -> pb.Subscription:
        request = pb.UpdateSubscriptionRequest(
            subscription=pb.Subscription(name=name, **fields),
            update_mask=FieldMask(paths=paths),
            request_id=request_id,
        )
        changed: pb.Subscription = (await self.call("UpdateSubscription", request)).subscription
        return changed

    async def rotate(self, name: str, **fields: Any) -> pb.RotateSubscriptionSecretResponse:
        request = pb.RotateSubscriptionSecretRequest(name=name, **fields)
        response: pb.RotateSubscriptionSecretResponse = await self.call(
            "RotateSubscriptionSecret", request
        )
        return response

    async def delete(self, name: str, **fields: Any) -> None:
        await self.call("DeleteSubscription", pb.DeleteSubscriptionRequest(name=name, **fields))

    async def ping(self, name: str, **fields: Any) -> str:
        request = pb.TestSubscriptionRequest(name=name, **fields)
        task_id: str = (await self.call("TestSubscription", request)).task_id
        return task_id

    async def names(self, page_size: int = 2) -> list[str]:
        found: list[str] = []
        request = pb.ListSubscriptionsRequest(page_size=page_size)
        while True:
            response = await self.call("ListSubscriptions", request)
            found += [subscription.name for subscription in response.subscriptions]
            request.page_token = response.next_page_token
            if not request.page_token:
                return found

    async def started(self, subscription: pb.Subscription) -> list[task_pb2.Task]:
        """The tasks that a subscription has started, oldest first."""
        request = executor_service_pb2.ListTasksRequest(page_size=1000)
        request.filter.labels[LABEL] = subscription.subscription_id
        return list(reversed((await self.tasks.call("ListTasks", request)).tasks))

    async def deliveries(
        self, subscription: pb.Subscription, count: int = 1
    ) -> list[task_pb2.Task]:
        """Wait until a subscription has started some tasks, and until they have ended."""

        async def enough() -> list[task_pb2.Task]:
            tasks = await self.started(subscription)
            assert len(tasks) == count
            return tasks

        return [
            await self.tasks.wait(task.task_id) for task in await eventually(enough, WAIT_SECONDS)
        ]


@asynccontextmanager
async def subscription_client(address: str, tasks: Client) -> AsyncIterator[SubscriptionClient]:
    async with open_channel(address, retry_unavailable=False) as channel:
        yield SubscriptionClient(SubscriptionServiceStub(channel), tasks)


@dataclass
class Request:
    """What a receiver was sent."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    def verified(self, *secrets: str) -> Delivery:
        return verify(self.body, self.headers, secrets)


@dataclass
class Receiver:
    """A server that says what it is told to, one answer after the other, and then 200."""

    requests: list[Request] = field(default_factory=list)
    port: int = 0
    _answers: list[bytes] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _hold: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def says(self, status: int, body: bytes = b"", **headers: str) -> None:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = [f"HTTP/1.1 {status} .", f"Content-Length: {len(body)}", "Connection: close", *lines]
        self._answers.append("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def hold(self) -> Callable[[], None]:
        """Answer nobody until what this gives is called."""
        self._hold = asyncio.Event()
        return self._hold.set

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def got(self, count: int = 1) -> list[Request]:
        await eventually(lambda: len(self.requests) >= count, WAIT_SECONDS)
        assert len(self.requests) == count
        return self.requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            pairs = (line.partition(": ") for line in rest)
            headers = {name.lower(): value for name, _, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append(Request(first.split(" ")[1], headers, body))
            # Answers are for requests in the order of their coming, held or not.
            self.says(200)
            answer = self._answers.pop(0)
            if self._answers:
                self._answers.pop()
            if self._hold is not None:
                await self._hold.wait()
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            # The caller has given up.
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.up()
    try:
        yield receiver
    finally:
        await receiver.down()
