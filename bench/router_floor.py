"""The least that a router over gRPC can cost: `python -m bench.router_floor URL PORT`.

A bare grpc.aio server, without any of the concerns around calls, that makes the one HTTP call
of the provider and gives back its text. What the router costs beyond it is ours.
"""

import asyncio
import sys
from typing import Any

import grpc.aio
import orjson
import uvloop

from router_svc.providers.http import HttpClient
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.router_service_pb2_grpc import (
    RouterServiceServicer,
    add_RouterServiceServicer_to_server,
)


class Floor(RouterServiceServicer):
    def __init__(self, url: str) -> None:
        self._client = HttpClient(url, headers={}, connect_seconds=5)

    async def Generate(  # noqa: N802
        self,
        request: pb.GenerateRequest,
        context: Any,  # noqa: ARG002
    ) -> pb.GenerateResponse:
        content = request.messages[-1].content
        body = {"model": "small", "messages": [{"role": "user", "content": content}]}
        async with await self._client.post("/chat/completions", orjson.dumps(body)) as response:
            answer = orjson.loads(await response.read(limit=2**20))
        return pb.GenerateResponse(text=answer["choices"][0]["message"]["content"])


async def main(url: str, port: str) -> None:
    server = grpc.aio.server()
    add_RouterServiceServicer_to_server(Floor(url), server)  # type: ignore[abstract]
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
