from pathlib import Path

import grpc
import grpc.aio
import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from stepwire.api.inference import open_inference_pb2 as oip
from stepwire.api.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from stepwire.api.router.v1 import router_service_pb2
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.api.vector.v1 import point_service_pb2
from stepwire.api.vector.v1.point_service_pb2_grpc import PointServiceStub
from stepwire.errors import Reason
from stepwire.rpc.status import from_rpc_error
from tests.integration.gateway.gateway_mesh import Mesh, UnaryCall, running_mesh


async def test_unary_call(mesh: Mesh) -> None:
    response = await ExecutorServiceStub(mesh.channel).GetTask(pb.GetTaskRequest(task_id="abc"))
    assert response.task.task_id == "abc"


async def test_calls_reach_the_service_that_owns_them(mesh: Mesh) -> None:
    response = await GRPCInferenceServiceStub(mesh.channel).ServerLive(oip.ServerLiveRequest())
    assert response.live


async def test_stream(mesh: Mesh) -> None:
    call = ExecutorServiceStub(mesh.channel).WatchTask(
        pb.WatchTaskRequest(task_id="abc", after_cursor=7)
    )
    cursors = []
    mesh.executor.next_event.release()
    async for response in call:
        cursors.append(response.event.cursor)
        mesh.executor.next_event.release()
    assert cursors == [8, 9]
    await mesh.executor.next_event.acquire()


async def test_a_client_cannot_choose_its_tenant(mesh: Mesh) -> None:
    response = await ExecutorServiceStub(mesh.channel).GetTask(
        pb.GetTaskRequest(task_id="abc"),
        metadata=(("x-tenant-id", "other"), ("x-tenant-id", "another")),
    )
    assert response.task.tenant_id == "default"
    assert mesh.executor.metadata["x-tenant-id"] == ["default"]


async def test_a_client_cannot_change_retries_or_pass_for_json(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ExecutorServiceStub(mesh.channel).CreateTask(
            pb.CreateTaskRequest(labels={"unavailable": "yes"}),
            metadata=(
                ("x-envoy-retry-on", "unavailable"),
                ("x-envoy-retry-grpc-on", "unavailable"),
                ("x-envoy-max-retries", "5"),
                ("x-envoy-original-path", "/v1/tasks"),
            ),
        )
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert mesh.executor.calls == ["CreateTask"]
    assert "x-envoy-original-path" not in mesh.executor.metadata


async def test_a_request_id_is_kept(mesh: Mesh) -> None:
    call = ExecutorServiceStub(mesh.channel).GetTask(
        pb.GetTaskRequest(task_id="abc"), metadata=(("x-request-id", "mine"),)
    )
    await call
    assert mesh.executor.metadata["x-request-id"] == ["mine"]
    assert ("x-request-id", "mine") in tuple(await call.initial_metadata())


async def test_a_request_id_is_made(mesh: Mesh) -> None:
    call = ExecutorServiceStub(mesh.channel).GetTask(pb.GetTaskRequest(task_id="abc"))
    await call
    (made,) = mesh.executor.metadata["x-request-id"]
    assert made
    assert ("x-request-id", made) in tuple(await call.initial_metadata())


async def test_an_error_keeps_its_reason(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ExecutorServiceStub(mesh.channel).GetTask(pb.GetTaskRequest(task_id="missing"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    error = from_rpc_error(caught.value)
    assert error is not None
    assert (error.reason, error.metadata) == (Reason.TASK_NOT_FOUND, {"task_id": "missing"})


async def test_a_read_is_tried_again(mesh: Mesh) -> None:
    response = await ExecutorServiceStub(mesh.channel).GetTask(
        pb.GetTaskRequest(task_id="unavailable-once")
    )
    assert response.task.task_id == "unavailable-once"
    assert mesh.executor.calls == ["GetTask", "GetTask"]


async def test_the_deadline_reaches_the_service(mesh: Mesh) -> None:
    await ExecutorServiceStub(mesh.channel).GetTask(pb.GetTaskRequest(task_id="a"), timeout=9)
    assert mesh.executor.time_remaining is not None
    assert 5 < mesh.executor.time_remaining < 10


async def test_a_call_without_a_deadline_gets_one(mesh: Mesh) -> None:
    stub = ExecutorServiceStub(mesh.channel)
    await stub.GetTask(pb.GetTaskRequest(task_id="a"))
    assert mesh.executor.time_remaining is not None
    assert 50 < mesh.executor.time_remaining < 61
    await stub.WaitTask(pb.WaitTaskRequest(task_id="a"))
    assert mesh.executor.time_remaining is not None
    assert 300 < mesh.executor.time_remaining < 311


async def test_a_watch_gets_none(mesh: Mesh) -> None:
    for _ in range(2):
        mesh.executor.next_event.release()
    async for _ in ExecutorServiceStub(mesh.channel).WatchTask(pb.WatchTaskRequest(task_id="a")):
        pass
    assert mesh.executor.time_remaining is None


async def test_a_service_that_hangs_is_cut_off_at_the_deadline(tmp_path: Path) -> None:
    # The client sets none, so that it is Envoy that ends the call.
    async with running_mesh(tmp_path, default_deadline_seconds=0.2) as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await RouterServiceStub(mesh.channel).ListModels(router_service_pb2.ListModelsRequest())
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # Envoy or the service's own gRPC ends the call, whichever comes first; the latter gives
    # no details.
    error = from_rpc_error(caught.value)
    assert error is None or error.reason is Reason.DEADLINE_EXCEEDED


async def test_a_service_that_is_down(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await PointServiceStub(mesh.channel).GetPoints(point_service_pb2.GetPointsRequest())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "the vector service does not answer"
    error = from_rpc_error(caught.value)
    assert error is not None
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert error.metadata == {"dependency": "vector"}


@pytest.mark.parametrize(
    "method",
    [
        "/stepwire.api.executor.v1.ExecutorService/Nothing",
        "/stepwire.api.nothing.v1.NothingService/Get",
    ],
)
async def test_an_unknown_method(mesh: Mesh, method: str) -> None:
    unknown: UnaryCall = mesh.channel.unary_unary(method)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unknown(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "no such method or path"


async def test_too_many_calls_at_once(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, max_upstream_requests=1) as mesh:
        stub = ExecutorServiceStub(mesh.channel)
        watch = stub.WatchTask(pb.WatchTaskRequest(task_id="abc"))
        mesh.executor.next_event.release()
        await watch.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetTask(pb.GetTaskRequest(task_id="abc"))
        watch.cancel()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = from_rpc_error(caught.value)
    assert error is not None
    assert error.reason is Reason.OVERLOADED
    assert error.retry_after is not None
