"""An OpenAI-compatible HTTP endpoint on loopback, that answers as a test tells it to."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One HTTP response."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    # Of the body, only so many bytes are sent before the connection is closed.
    cut_after: int | None = None

    def encode(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        lines = [
            f"HTTP/1.1 {self.status} Reason",
            f"content-type: {self.content_type}",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body[: self.cut_after]


@dataclass(frozen=True)
class Silence:
    """No answer until the client gives up."""


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    path: str
    headers: Mapping[str, str]
    body: Any


def chat(text: Any, *, prompt_tokens: int = 100, completion_tokens: int = 20) -> Reply:
    return Reply(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "some-model",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text},
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }
    )


def refusal(status: int, message: str = "no", *, code: str | None = None, **headers: str) -> Reply:
    return Reply(
        {"error": {"message": message, "type": "t", "code": code}},
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


class ChatEndpoint:
    """Answers with the next of `script`; when that is empty, with `otherwise`."""

    def __init__(self) -> None:
        self.base_url = ""
        self.script: deque[Reply | Silence] = deque()
        self.otherwise: Reply | Silence = chat("It rose by a metre.")
        self.seen: list[Seen] = []
        self.waiting = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._handle_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _handle_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.seen.append(Seen(head[0].split()[1], headers, json.loads(body or b"null")))
        answer = self.script.popleft() if self.script else self.otherwise
        if isinstance(answer, Silence):
            self.waiting += 1
            try:
                await reader.read(1)  # returns when the client has closed
            finally:
                self.waiting -= 1
            return False
        writer.write(answer.encode())
        await writer.drain()
        return answer.cut_after is None


@asynccontextmanager
async def chat_endpoint() -> AsyncIterator[ChatEndpoint]:
    endpoint = ChatEndpoint()
    server = await asyncio.start_server(endpoint.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint.base_url = f"http://127.0.0.1:{port}/v1"
    async with server:
        yield endpoint
        # Connections kept open would hold up the end of the server.
        server.close()
