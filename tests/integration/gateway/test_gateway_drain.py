"""What a gateway shows to others than its clients, and how it is taken out of service."""

from pathlib import Path

import grpc.aio
import httpx2
import pytest

from gateway.drain import drain
from gateway.testing import free_ports, running_envoy
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from tests.integration.gateway.gateway_mesh import Executor, executor_service, serving


async def test_scrapers_see_metrics_and_readiness_and_no_more(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with (
        running_envoy(tmp_path, metrics_port=port),
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as scraper,
    ):
        assert (await scraper.get("/ready")).text == "LIVE\n"
        assert "envoy_server_live" in (await scraper.get("/stats/prometheus")).text
        for page in ("/", "/config_dump", "/stats", "/ready/"):
            assert (await scraper.get(page)).status_code == 404
        for page in ("/quitquitquit", "/healthcheck/fail", "/ready"):
            assert (await scraper.post(page)).status_code == 404


@pytest.mark.parametrize("ends", [True, False])
async def test_a_drain_waits_for_calls_under_way(tmp_path: Path, *, ends: bool) -> None:
    executor = Executor()  # type: ignore[abstract]
    async with (
        serving(executor_service(executor)) as target,
        running_envoy(tmp_path, executor_target=target) as envoy,
        grpc.aio.insecure_channel(envoy.target) as channel,
        httpx2.AsyncClient(base_url=f"http://{envoy.target}", trust_env=False) as client,
    ):
        watch = ExecutorServiceStub(channel).WatchTask(pb.WatchTaskRequest(task_id="a"))  # type: ignore[no-untyped-call]
        executor.next_event.release()
        await anext(aiter(watch))
        assert (await client.get("/healthz")).status_code == 200
        if ends:
            watch.cancel()
        left = await drain(envoy.admin_target, least_seconds=0, most_seconds=20 if ends else 0.5)
        assert left == (0 if ends else 1)
        # Whoever balances calls sends no more; what comes all the same is answered.
        assert (await client.get("/healthz")).status_code == 503
        assert (await client.get("/v1/tasks/a")).status_code == 200
