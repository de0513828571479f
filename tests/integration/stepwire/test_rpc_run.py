"""Services and other processes as real processes: start, signals, telemetry, end."""

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.request
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from stepwire.rpc import open_channel
from stepwire.testing.poll import eventually

ROOT = Path(__file__).parents[3]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# A service whose method answers when the process is told to stop; `sys.argv[1]` says
# what its build does. It prints what it does, in order.
SERVICE = """
import asyncio, sys
import grpc
from stepwire.rpc import Service, run
from stepwire.settings import ServiceSettings
from stepwire.errors import Reason, StepwireError
from pydantic_settings import SettingsConfigDict

class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="STEPWIRE_TOY_", frozen=True)

def say(text):
    print(text, flush=True)

async def build(stack):
    stack.callback(say, "closed")
    if sys.argv[1] == "fails":
        raise RuntimeError("no database")
    if sys.argv[1] == "waits":
        say("building")
        if await asyncio.to_thread(sys.stdin.readline) != "there\\n":
            raise StepwireError(Reason.DEPENDENCY_UNAVAILABLE, "the database is away")
    if sys.argv[1] == "hangs":
        say("building")
        await asyncio.Event().wait()
    draining = asyncio.Event()
    async def do(request, context):
        if request == b"wait":
            say("waiting")
            await draining.wait()
            say("answered")
        return request
    async def drain():
        say("draining")
        draining.set()
    def add(server):
        handlers = {"Do": grpc.unary_unary_rpc_method_handler(do)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Toy", handlers),))
    return [Service("test.Toy", add, drain)]

run("toy", Settings(), build)
"""

WORKER = """
import asyncio, sys
from stepwire.lifecycle import run_process
from stepwire.settings import ProcessSettings

async def main(stack, stopping):
    stack.callback(print, "closed", flush=True)
    print("working", flush=True)
    if sys.argv[1] == "fails":
        raise RuntimeError("broken")
    await stopping.wait()
    print("stopping", stopping.drain_seconds_left() > 0, flush=True)
    if sys.argv[1] == "hangs":
        await asyncio.Event().wait()

run_process("toy worker", ProcessSettings(drain_seconds=float(sys.argv[2])), main)
"""


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def process(script, *arguments, **environment):
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        *arguments,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def ended(started):
    """Returns the exit code, the lines of standard output, and the log."""
    output, errors = await asyncio.wait_for(started.communicate(), 30)
    log = [json.loads(line) for line in errors.decode().splitlines() if line.startswith("{")]
    return started.returncode, output.decode().splitlines(), log


async def status(channel):
    check = health_pb2_grpc.HealthStub(channel).Check
    return (await check(health_pb2.HealthCheckRequest(), wait_for_ready=True)).status


async def test_a_service_starts_serves_and_stops_in_order(free_port):
    async with (
        process(SERVICE, "builds", STEPWIRE_TOY_PORT=str(free_port)) as toy,
        open_channel(f"127.0.0.1:{free_port}") as channel,
    ):
        await eventually(partial(is_now, channel, SERVING), timeout_seconds=30)
        call = asyncio.ensure_future(channel.unary_unary("/test.Toy/Do")(b"wait"))
        assert await toy.stdout.readline() == b"waiting\n"
        toy.send_signal(signal.SIGTERM)
        assert await call == b"wait"
        code, output, log = await ended(toy)
    assert code == 0
    assert output == ["draining", "answered", "closed"]
    messages = [line["message"] for line in log]
    assert messages == [
        f"toy is ready on 127.0.0.1:{free_port}",
        "toy is stopping: SIGTERM",
        "toy has stopped",
    ]
    assert log[0]["services"] == ["test.Toy"]


async def is_now(channel, wanted):
    return await status(channel) == wanted


async def test_a_service_is_not_serving_while_it_builds_and_can_be_stopped_then(free_port):
    async with (
        process(SERVICE, "hangs", STEPWIRE_TOY_PORT=str(free_port)) as toy,
        open_channel(f"127.0.0.1:{free_port}") as channel,
    ):
        assert await toy.stdout.readline() == b"building\n"
        assert await status(channel) == NOT_SERVING
        toy.send_signal(signal.SIGINT)
        code, output, _ = await ended(toy)
    assert (code, output) == (0, ["closed"])


async def test_a_service_is_built_again_while_something_is_away(free_port):
    """What was opened in vain is closed before the next try."""
    async with (
        process(SERVICE, "waits", STEPWIRE_TOY_PORT=str(free_port)) as toy,
        open_channel(f"127.0.0.1:{free_port}") as channel,
    ):
        for answer in (b"away\n", b"away\n", b"there\n"):
            assert await toy.stdout.readline() == b"building\n"
            assert await status(channel) == NOT_SERVING
            toy.stdin.write(answer)
            if answer == b"away\n":
                assert await toy.stdout.readline() == b"closed\n"
        await eventually(partial(is_now, channel, SERVING), timeout_seconds=30)
        toy.send_signal(signal.SIGTERM)
        code, output, log = await ended(toy)
    assert (code, output) == (0, ["draining", "closed"])
    causes = [line["cause"] for line in log if line["message"] == "waiting for what is away"]
    assert causes == ["the database is away"] * 2


async def test_a_service_that_waits_can_be_stopped(free_port):
    async with process(SERVICE, "waits", STEPWIRE_TOY_PORT=str(free_port)) as toy:
        assert await toy.stdout.readline() == b"building\n"
        toy.stdin.write(b"away\n")
        assert await toy.stdout.readline() == b"closed\n"
        assert await toy.stdout.readline() == b"building\n"
        toy.stdin.write(b"away\n")
        toy.send_signal(signal.SIGTERM)
        code, _, log = await ended(toy)
    assert code == 0
    assert log[-1]["message"] == "toy has stopped"


async def test_a_service_does_not_wait_for_ever(free_port):
    environment = {"STEPWIRE_TOY_PORT": str(free_port), "STEPWIRE_TOY_START_SECONDS": "0"}
    async with process(SERVICE, "waits", **environment) as toy:
        toy.stdin.write(b"away\n")
        code, output, log = await ended(toy)
    assert (code, output) == (1, ["building", "closed"])
    assert log[-1]["message"] == "cannot start: the database is away"
    assert "exception" not in log[-1]


async def test_a_service_that_cannot_be_built_says_why(free_port):
    async with process(SERVICE, "fails", STEPWIRE_TOY_PORT=str(free_port)) as toy:
        code, output, log = await ended(toy)
    assert (code, output) == (1, ["closed"])
    assert log[-1]["level"] == "CRITICAL"
    assert "no database" in log[-1]["exception"]


@pytest.mark.parametrize("setting", ["STEPWIRE_TOY_PORT", "STEPWIRE_TOY_METRICS_PORT"])
async def test_a_taken_port_is_one_clear_line(setting):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        async with process(SERVICE, "builds", **{"STEPWIRE_TOY_PORT": "0", setting: port}) as toy:
            code, _, log = await ended(toy)
    assert code == 1
    (line,) = log
    assert (line["level"], line["service"]) == ("CRITICAL", "toy")
    assert f"127.0.0.1:{port}" in line["message"]
    assert "exception" not in line


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_metrics_are_served_and_the_last_spans_are_sent(free_port, loop):
    received = []

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, request, context):  # noqa: N802
            received.extend(request.resource_spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    collector = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), collector)
    collector_port = collector.add_insecure_port("127.0.0.1:0")
    await collector.start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        metrics_port = probe.getsockname()[1]
    environment = {
        "STEPWIRE_TOY_PORT": str(free_port),
        "STEPWIRE_TOY_METRICS_PORT": str(metrics_port),
        "STEPWIRE_TOY_EVENT_LOOP": loop,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector_port}",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        # Longer than the test: only the end of the process sends the spans.
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
    }
    async with (
        process(SERVICE, "builds", **environment) as toy,
        open_channel(f"127.0.0.1:{free_port}") as channel,
    ):
        await eventually(partial(is_now, channel, SERVING), timeout_seconds=30)
        await channel.unary_unary("/test.Toy/Do")(b"x")
        scraped = await asyncio.to_thread(scrape, metrics_port)
        toy.send_signal(signal.SIGTERM)
        code, _, _ = await ended(toy)
    await collector.stop(None)
    assert code == 0
    (sample,) = [
        text for text in scraped if text.startswith("rpc_server_call_duration_seconds_count")
    ]
    assert 'rpc_method="test.Toy/Do"' in sample
    assert 'rpc_response_status_code="OK"' in sample
    (resource_spans,) = received
    (span,) = resource_spans.scope_spans[0].spans
    assert span.name == "test.Toy/Do"
    resource = {a.key: a.value.string_value for a in resource_spans.resource.attributes}
    assert resource["service.name"] == "toy"
    assert resource["service.namespace"] == "stepwire"
    assert resource["deployment.environment.name"] == "test"


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return response.read().decode().splitlines()


async def test_a_process_without_a_server_stops_the_same_way():
    async with process(WORKER, "works", "10") as worker:
        assert await worker.stdout.readline() == b"working\n"
        worker.send_signal(signal.SIGTERM)
        code, output, _ = await ended(worker)
    assert (code, output) == (0, ["stopping True", "closed"])


async def test_work_that_does_not_end_in_time_is_cut_off_and_what_is_open_closed():
    async with process(WORKER, "hangs", "1") as worker:
        assert await worker.stdout.readline() == b"working\n"
        worker.send_signal(signal.SIGTERM)
        code, output, log = await ended(worker)
    assert (code, output) == (1, ["stopping True", "closed"])
    assert "cut off" in log[-1]["message"]


async def test_a_second_signal_ends_the_process_at_once():
    async with process(WORKER, "hangs", "600") as worker:
        assert await worker.stdout.readline() == b"working\n"
        worker.send_signal(signal.SIGTERM)
        assert await worker.stdout.readline() == b"stopping True\n"
        worker.send_signal(signal.SIGTERM)
        code, output, _ = await ended(worker)
    assert (code, output) == (1, ["closed"])


async def test_a_process_that_fails_says_why():
    async with process(WORKER, "fails", "1") as worker:
        code, output, log = await ended(worker)
    assert (code, output) == (1, ["working", "closed"])
    assert "RuntimeError: broken" in log[-1]["exception"]
