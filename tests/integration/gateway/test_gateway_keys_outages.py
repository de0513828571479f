"""Keys over real processes: their tenants' tasks, outages, and where no key may turn up."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest

from executor_svc.app import build
from executor_svc.settings import ExecutorSettings
from gateway.authz import wire
from gateway.authz.server import MAX_READ_BYTES
from gateway.testing import RunningEnvoy, free_ports, running_envoy
from stepwire.api_keys import key_text, new_key_id, new_secret
from stepwire.errors import Reason, StepwireError
from stepwire.rpc import Server
from stepwire.sdk import graph
from stepwire.sdk.client import Client
from stepwire.testing.poll import eventually
from tests.integration.gateway.gateway_mesh import Executor, executor_service, serving
from tests.integration.gateway.test_gateway_observability import Collector, collecting

TASK = "/v1/tasks/abc"
CACHE_SECONDS = 0.01


@asynccontextmanager
async def companion_process(
    log: Path, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the companion as it is run in earnest."""
    variables = {f"STEPWIRE_COMPANION_{name.upper()}": value for name, value in settings.items()}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            env=os.environ | variables,
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def reasons(http: httpx2.AsyncClient, key: str) -> tuple[int, str]:
    """Give status and reason of a call with a key."""
    answer = await http.get(TASK, headers=bearer(key))
    details = answer.json().get("details", ())
    return answer.status_code, "".join(each.get("reason", "") for each in details)


async def shut_out(admin_url: str, database_url: str) -> None:
    """Let nobody into a database, as if its server were away."""
    name = urlsplit(database_url).path.lstrip("/")
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
    finally:
        await connection.close()


async def test_outages_and_where_no_key_turns_up(
    tmp_path: Path, postgres_url: str, database_url: str
) -> None:
    executor, collector = Executor(), Collector()  # type: ignore[abstract]
    key = key_text(new_key_id(), new_secret())
    stranger = key_text(new_key_id(), new_secret())
    port, http_port = free_ports(2)
    async with AsyncExitStack() as stack:
        companion = await stack.enter_async_context(
            companion_process(
                tmp_path / "companion.log",
                port=str(port),
                http_port=str(http_port),
                postgres_url=database_url,
                first_key=key,
                key_cache_seconds=str(CACHE_SECONDS),
                log_level="DEBUG",
            )
        )
        envoy: RunningEnvoy = await stack.enter_async_context(
            running_envoy(
                tmp_path,
                authentication="keys",
                executor_target=await stack.enter_async_context(
                    serving(executor_service(executor))
                ),
                companion_target=f"127.0.0.1:{port}",
                companion_http_target=f"127.0.0.1:{http_port}",
                otlp_target=await stack.enter_async_context(collecting(collector)),
            )
        )
        http = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=f"http://{envoy.target}", trust_env=False, timeout=30)
        )
        # Before the companion listens, and after it was killed, no call passes.
        away = (503, Reason.DEPENDENCY_UNAVAILABLE.value)

        async def passes() -> bool:
            told = await reasons(http, key)
            assert told in {(200, ""), away}
            return told == (200, "")

        await eventually(passes, timeout_seconds=30)
        assert await reasons(http, stranger) == (401, Reason.KEY_INVALID.value)

        await shut_out(postgres_url, database_url)
        assert await reasons(http, key) == (200, "")
        unknown = key_text(new_key_id(), new_secret())
        assert await reasons(http, unknown) == away
        executor.calls.clear()

        companion.kill()
        await companion.wait()
        assert await reasons(http, key) == away
        assert executor.calls == []
        secret = key.rpartition("_")[2]
        # Envoy writes its log every second, and sends spans every 5.
        used = f'"key_id":"{key.split("_")[1]}"'
        await eventually(lambda: envoy.access_log.read_text().count(used) > 1, timeout_seconds=20)
        await eventually(lambda: len(collector.spans) > 3, timeout_seconds=20)
        logs = {name: (tmp_path / name).read_text() for name in ("companion.log", "envoy.log")}
        logs["access"] = envoy.access_log.read_text()
        logs["spans"] = str(collector.spans)
        logs["metadata"] = str(executor.metadata)
        logs["configuration"] = (tmp_path / "envoy.yaml").read_text()
        assert [name for name, text in logs.items() if secret in text] == []


async def test_a_companion_that_stops_is_asked_again(tmp_path: Path) -> None:
    executor, questions = Executor(), 0  # type: ignore[abstract]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal questions
        question = await reader.readuntil(wire.END)
        checks = question.split()[1].startswith(wire.PREFIX.encode())
        questions += checks
        if not checks:
            writer.write(wire.HEALTHY)
        elif questions > 1:
            writer.write(wire.allow("id", "acme"))
        writer.close()

    companion = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = companion.sockets[0].getsockname()[1]
    async with (
        companion,
        serving(executor_service(executor)) as target,
        running_envoy(
            tmp_path,
            authentication="keys",
            executor_target=target,
            companion_http_target=f"127.0.0.1:{port}",
        ) as envoy,
        httpx2.AsyncClient(base_url=f"http://{envoy.target}", trust_env=False) as http,
    ):
        assert (await http.get(TASK)).json()["task"]["tenant_id"] == "acme"
    assert questions == 2


async def test_what_is_no_question_ends_the_connection(guarded_targets: dict[str, str]) -> None:
    host, _, port = guarded_targets["companion_http_target"].partition(":")
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"x" * (MAX_READ_BYTES + 1)):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        assert await reader.read() == wire.MALFORMED
        writer.close()


async def test_tenants_do_not_see_each_others_tasks(
    tmp_path: Path, guarded_targets: dict[str, str], first_key: str, database_url: str
) -> None:
    settings = ExecutorSettings(port=0, postgres_url=database_url)
    async with AsyncExitStack() as stack:
        services = await build(settings, stack)
        server = await stack.enter_async_context(Server("executor", settings, services))
        envoy = await stack.enter_async_context(
            running_envoy(
                tmp_path,
                authentication="keys",
                executor_target=server.address,
                **guarded_targets,
            )
        )
        operator = await stack.enter_async_context(Client(envoy.target, api_key=first_key))
        clients = []
        for tenant in ("acme", "globex"):
            made = await operator.keys.create("tenant", tenant_id=tenant)
            client = Client(envoy.target, api_key=made.text)
            clients.append(await stack.enter_async_context(client))
        acme, globex = clients
        task = await acme.create(graph.graph(graph.transform("one", expression="1")))
        assert [found.task_id async for found in acme.find()] == [task.task_id]
        assert [found.task_id async for found in globex.find()] == []
        for call in (globex.get, globex.cancel):
            with pytest.raises(StepwireError) as caught:
                await call(task.task_id)
            assert caught.value.reason is Reason.TASK_NOT_FOUND
