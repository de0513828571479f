"""Processes that start before what they stand on is there."""

from contextlib import asynccontextmanager
from functools import partial

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stepwire.api.executor.v1.executor_service_pb2 import GetTaskRequest
from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from stepwire.rpc import open_channel
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import WAIT_SECONDS, chain, output_of
from tests.integration.executor_svc.executor_process import executor_process
from tests.integration.executor_svc.worker_process import worker_process
from tests.integration.tcp_gate import gate_to


@asynccontextmanager
async def shut_gate_to(url):
    async with gate_to(url) as gate:
        await gate.shut()
        yield gate
        await gate.open()


async def until_it_says(log, text):
    await eventually(lambda: text in log.read_text(), WAIT_SECONDS)


async def is_serving(channel):
    request = health_pb2.HealthCheckRequest()
    answer = await health_pb2_grpc.HealthStub(channel).Check(request)
    return answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_worker_waits_for_what_it_stands_on(mesh, tmp_path):
    log = tmp_path / "log"
    async with shut_gate_to(mesh.database_url) as postgres, shut_gate_to(mesh.rabbitmq_url) as mq:
        with worker_process(mesh, log, postgres_url=postgres.url, rabbitmq_url=mq.url):
            await until_it_says(log, "RabbitMQ does not answer")
            await mq.open()
            await until_it_says(log, "Postgres does not answer")
            await postgres.open()
            task = await mesh.client.run(chain(2), 1)
            await mq.shut()
            await postgres.shut()
    assert output_of(task) == 3


async def test_an_executor_waits_for_what_it_stands_on(
    database_url, rabbitmq_url, mq_namespace, tmp_path
):
    log = tmp_path / "log"
    async with shut_gate_to(database_url) as postgres, shut_gate_to(rabbitmq_url) as mq:
        urls = {"postgres_url": postgres.url, "rabbitmq_url": mq.url}
        with executor_process(log, mq_namespace=mq_namespace, **urls) as executor:
            await until_it_says(log, "Postgres does not answer")
            async with open_channel(executor.address, retry_unavailable=False) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ExecutorServiceStub(channel).GetTask(GetTaskRequest(task_id="t"))
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                await postgres.open()
                await until_it_says(log, "RabbitMQ does not answer")
                await mq.open()
                await eventually(partial(is_serving, channel), WAIT_SECONDS)
            await mq.shut()
            await postgres.shut()


async def test_a_process_does_not_wait_for_ever(mesh, tmp_path):
    log = tmp_path / "log"
    async with shut_gate_to(mesh.database_url) as postgres:
        with worker_process(mesh, log, postgres_url=postgres.url, start_seconds=0) as worker:
            assert worker.wait() == 1
    assert "cannot start: Postgres does not answer" in log.read_text()
