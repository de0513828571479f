"""P8: however often and wherever a request is sent, it makes one task."""

import asyncio

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    create_request,
    graph,
    python,
    running_mesh,
    state_of,
)


async def test_one_task_for_all_senders(mesh, tmp_path):
    """Two executors over one database, each asked many times at once."""
    path = tmp_path / "notes"
    what = graph(python("a", "note"))

    async def single(client, request_id):
        return await client.create(what, {"path": str(path)}, request_id=request_id)

    async def batch(client, request_ids):
        request = pb.BatchCreateTasksRequest(
            requests=[
                create_request(what, {"path": str(path)}, request_id=each) for each in request_ids
            ]
        )
        return list((await client.call("BatchCreateTasks", request)).task_ids)

    async with (
        running_mesh(mesh.database_url, mesh.rabbitmq_url, mesh.namespace) as other,
        mesh.worker(),
    ):
        clients = [mesh.client, other.client]
        singles = await asyncio.gather(
            *(single(client, "same") for client in clients for _ in range(20))
        )
        batches = await asyncio.gather(
            *(
                batch(client, ids)
                for client in clients
                for ids in (["x", "same", "y"], ["y", "x"]) * 5
            )
        )
        answered = {*singles, *(task_id for ids in batches for task_id in ids)}
        assert len(answered) == 3
        assert len({ids[1] for ids in batches if len(ids) == 3} | set(singles)) == 1
        for task_id in answered:
            assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"
        assert await single(other.client, "same") == singles[0]
    assert noted(path) == ["a 1"] * 3
    rows = await mesh.fetch("SELECT task_id FROM executor.tasks")
    assert {str(row["task_id"]) for row in rows} == answered
