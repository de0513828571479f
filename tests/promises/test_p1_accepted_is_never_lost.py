"""P1: CreateTask answers after the commit; a crash of Postgres right behind it loses nothing."""

import os
import signal

import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.db.pool import CONNECTION_ERRORS
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database, postgres_server
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    chain,
    create_request,
    output_of,
    running_mesh,
)

CHECKPOINTER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"


# Postgres takes five seconds to give up on its processes, and then recovers.
@pytest.mark.timeout(300)
async def test_accepted_tasks_outlive_a_crash_of_postgres(rabbitmq_url, mq_namespace):
    with postgres_server() as server, fresh_database(server) as url:
        async with running_mesh(url, rabbitmq_url, mq_namespace) as mesh:
            ids = [await mesh.client.create(chain(2), number) for number in range(10)]
            batch = pb.BatchCreateTasksRequest(
                requests=[create_request(chain(2), number) for number in range(10, 20)]
            )
            ids += (await mesh.client.call("BatchCreateTasks", batch)).task_ids
            # Postgres then drops all its memory, and recovers from what is on disk.
            (killed,) = await mesh.fetch(CHECKPOINTER)
            os.kill(killed["pid"], signal.SIGKILL)

            async def recovered():
                # At first it answers as if nothing had happened.
                try:
                    others = await mesh.fetch(CHECKPOINTER)
                except CONNECTION_ERRORS:
                    return False
                return bool(others) and others[0]["pid"] != killed["pid"]

            await eventually(recovered, WAIT_SECONDS)
            async with mesh.worker():
                tasks = [await mesh.client.wait(task_id) for task_id in ids]
            assert [output_of(task) for task in tasks] == list(range(2, 22))
