"""What a call costs in Python's gRPC alone: a server that answers with bytes that it has.

python -m bench.echo PORT ANSWER_BYTES
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
import psutil
import uvloop

from stepwire.stack.ports import free_port

METHOD = "/bench.Echo/Echo"
STREAM = "/bench.Echo/Stream"
WARM_CALLS = 200

Call = Callable[[bytes], Awaitable[bytes]]


async def serve(port: int, answer: bytes) -> None:
    async def echo(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return answer

    async def stream(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> None:
        async for _ in requests:
            await context.write(answer)

    _, service, _ = METHOD.split("/")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        METHOD.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(echo),
        STREAM.rpartition("/")[2]: grpc.stream_stream_rpc_method_handler(stream),
    }
    server = grpc.aio.server(handlers=(grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def cpu_seconds_per_call(
    request: bytes, answer_bytes: int, *, concurrency: int, seconds: float, stream: bool = False
) -> float:
    """Processor time of server and client together, with so many calls in flight.

    Or for a message and its answer, with so many streams.
    """
    port = free_port()
    command = [sys.executable, "-m", "bench.echo", str(port), str(answer_bytes)]
    process = subprocess.Popen(command)  # noqa: ASYNC220  (nothing else is under way)
    both = (psutil.Process(process.pid), psutil.Process())
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
            calls = [_caller(channel, stream=stream) for _ in range(concurrency)]
            for _ in range(WARM_CALLS):
                await calls[0](request)
            before, count = sum(map(_cpu_seconds, both)), 0
            end = time.perf_counter() + seconds

            async def client(call: Call) -> None:
                nonlocal count
                while time.perf_counter() < end:
                    await call(request)
                    count += 1

            await asyncio.gather(*map(client, calls))
            return (sum(map(_cpu_seconds, both)) - before) / count
    finally:
        process.terminate()
        process.wait()


def _caller(channel: grpc.aio.Channel, *, stream: bool) -> Call:
    if not stream:
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return unary
    method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
    call = method()

    async def ask(request: bytes) -> bytes:
        await call.write(request)
        answer = await call.read()
        assert isinstance(answer, bytes), "the stream has ended"
        return answer

    return ask


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1]), bytes(int(sys.argv[2]))))
