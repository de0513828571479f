import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from gateway.descriptors import method_names
from gateway.mesh import HEALTH, MESH_SERVICES, PUBLIC_SERVICES, REFLECTION, REFLECTION_ALPHA
from gateway.testing import free_ports
from stepwire.rpc import Server, Service
from tests.integration.gateway.gateway_mesh import (
    EXECUTOR,
    INFERENCE,
    MODEL,
    ROUTER,
    VECTOR,
    Mesh,
    Settings,
    companion,
)

Status = health_pb2.HealthCheckResponse


async def reflect(channel: grpc.aio.Channel, name: str, **request: Any) -> Any:
    call = channel.stream_stream(
        f"/{name}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(**request))
    response = await call.read()
    await call.done_writing()
    return response


@pytest.mark.parametrize("name", [REFLECTION, REFLECTION_ALPHA])
async def test_reflection_lists_every_public_service(mesh: Mesh, name: str) -> None:
    response = await reflect(mesh.channel, name, list_services="*")
    listed = {service.name for service in response.list_services_response.service}
    assert listed == {service.name for service in PUBLIC_SERVICES}


@pytest.mark.parametrize("service", [service.name for service in PUBLIC_SERVICES])
async def test_reflection_describes_a_service_well_enough_to_call_it(
    mesh: Mesh, service: str
) -> None:
    response = await reflect(mesh.channel, REFLECTION, file_containing_symbol=service)
    files = [
        FileDescriptorProto.FromString(file)
        for file in response.file_descriptor_response.file_descriptor_proto
    ]
    pool = DescriptorPool()
    pending = {file.name: file for file in files}
    while pending:
        ready = [
            file
            for file in pending.values()
            if not any(imported in pending for imported in file.dependency)
        ]
        for file in ready:
            pool.Add(pending.pop(file.name))
    methods = pool.FindServiceByName(service).methods
    if service in {known.name for known in MESH_SERVICES}:
        assert tuple(method.name for method in methods) == tuple(method_names(service))
    assert methods


async def check(stub: Any, service: str) -> int:
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(response.status)


async def test_health_of_each_service(mesh: Mesh) -> None:
    stub: Any = health_pb2_grpc.HealthStub(mesh.channel)
    found = {name: await check(stub, name) for name in (EXECUTOR, MODEL, INFERENCE, HEALTH)}
    assert set(found.values()) == {Status.SERVING}
    # The router hangs and tells nothing of its health, the vector service is down.
    assert await check(stub, ROUTER) == Status.NOT_SERVING
    assert await check(stub, VECTOR) == Status.NOT_SERVING
    assert await check(stub, "") == Status.NOT_SERVING


async def test_health_of_an_unknown_service(mesh: Mesh) -> None:
    stub: Any = health_pb2_grpc.HealthStub(mesh.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(stub, "stepwire.api.nothing.v1.NothingService")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_list_names_every_service(mesh: Mesh) -> None:
    stub: Any = health_pb2_grpc.HealthStub(mesh.channel)
    statuses = (await stub.List(health_pb2.HealthListRequest())).statuses
    assert set(statuses) == {"", *(service.name for service in PUBLIC_SERVICES)}
    assert statuses[EXECUTOR].status == Status.SERVING
    assert statuses[VECTOR].status == Status.NOT_SERVING


async def test_watch_of_an_unknown_service_says_so_and_stays(mesh: Mesh) -> None:
    stub: Any = health_pb2_grpc.HealthStub(mesh.channel)
    call = stub.Watch(health_pb2.HealthCheckRequest(service="stepwire.nothing"))
    assert (await call.read()).status == Status.SERVICE_UNKNOWN
    assert not call.done()
    call.cancel()


@pytest.fixture
async def open_stub() -> AsyncIterator[Callable[[str], Any]]:
    channels: list[grpc.aio.Channel] = []

    def stub_of(target: str) -> Any:
        channels.append(grpc.aio.insecure_channel(target))
        return health_pb2_grpc.HealthStub(channels[-1])

    yield stub_of
    await asyncio.gather(*(channel.close() for channel in channels))


async def test_watch_follows_a_service_that_goes_and_comes_back(
    open_stub: Callable[[str], Any],
) -> None:
    (port,) = free_ports(1)
    executor = Service(EXECUTOR, lambda _: None)
    async with companion(executor_target=f"127.0.0.1:{port}") as target:
        watch = open_stub(target).Watch(health_pb2.HealthCheckRequest(service=EXECUTOR))
        assert (await watch.read()).status == Status.NOT_SERVING
        async with Server("executor", Settings(port=port), [executor]):
            assert (await watch.read()).status == Status.SERVING
        assert (await watch.read()).status == Status.NOT_SERVING
        async with Server("executor", Settings(port=port), [executor]):
            assert (await watch.read()).status == Status.SERVING
        watch.cancel()


async def test_watches_end_when_the_companion_stops(open_stub: Callable[[str], Any]) -> None:
    async with companion() as target:
        watch = open_stub(target).Watch(health_pb2.HealthCheckRequest(service=EXECUTOR))
        assert (await watch.read()).status == Status.NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
