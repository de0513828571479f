import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from gateway.descriptors import load, method_names
from gateway.mesh import HEALTH_NAMES, MESH_SERVICES, PUBLIC_SERVICES
from gateway.public import Behaviour, PublicService, Upstream
from gateway.reflection import reflection_pool
from stepwire.api.executor.v1 import (
    executor_service_pb2,
    queue_service_pb2,
    schedule_service_pb2,
    subscription_service_pb2,
    workflow_service_pb2,
)
from stepwire.api.gateway.v1 import key_service_pb2
from stepwire.api.inference import open_inference_pb2
from stepwire.api.model.v1 import model_service_pb2
from stepwire.api.router.v1 import router_service_pb2
from stepwire.api.vector.v1 import (
    collection_service_pb2,
    index_service_pb2,
    point_service_pb2,
    search_service_pb2,
    snapshot_service_pb2,
)

STUBS = [
    executor_service_pb2.DESCRIPTOR,
    queue_service_pb2.DESCRIPTOR,
    schedule_service_pb2.DESCRIPTOR,
    subscription_service_pb2.DESCRIPTOR,
    workflow_service_pb2.DESCRIPTOR,
    key_service_pb2.DESCRIPTOR,
    open_inference_pb2.DESCRIPTOR,
    model_service_pb2.DESCRIPTOR,
    router_service_pb2.DESCRIPTOR,
    collection_service_pb2.DESCRIPTOR,
    point_service_pb2.DESCRIPTOR,
    search_service_pb2.DESCRIPTOR,
    index_service_pb2.DESCRIPTOR,
    snapshot_service_pb2.DESCRIPTOR,
]


def comparable(file: FileDescriptorProto) -> FileDescriptorProto:
    """Without what the generator of the stubs changes: names of files, default JSON names."""
    file.ClearField("name")
    file.ClearField("dependency")
    pending = list(file.message_type)
    while pending:
        message = pending.pop()
        pending.extend(message.nested_type)
        for field in message.field:
            field.ClearField("json_name")
    return file


def with_imports(file: FileDescriptor) -> dict[str, FileDescriptor]:
    found = {file.name: file}
    for imported in file.dependencies:
        found |= with_imports(imported)
    return found


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.package)
def test_descriptor_set_is_that_of_the_stubs(stub: FileDescriptor) -> None:
    committed = {
        file.name.removeprefix("stepwire/api/"): file
        for file in load().file
        if not file.name.startswith("google/")
    }
    for name, file in with_imports(stub).items():
        if name.startswith("google/"):
            continue
        generated = FileDescriptorProto()
        file.CopyToProto(generated)
        held = FileDescriptorProto()
        held.CopyFrom(committed[name.removeprefix("stepwire/api/")])
        assert comparable(held) == comparable(generated), (
            "run `python -m gateway.descriptors` at the repository's root"
        )


def test_every_service_of_the_protos_is_public() -> None:
    described = {
        f"{file.package}.{service.name}" for file in load().file for service in file.service
    }
    assert described == {service.name for service in MESH_SERVICES}


@pytest.mark.parametrize("service", PUBLIC_SERVICES, ids=lambda service: service.name)
def test_named_methods_exist(service: PublicService) -> None:
    descriptor = reflection_pool().FindServiceByName(service.name)
    existing = {method.name for method in descriptor.methods}
    assert set(service.methods) <= existing
    if service.protocol:
        assert set(service.methods) == existing


@pytest.mark.parametrize("service", PUBLIC_SERVICES, ids=lambda service: service.name)
def test_streams_behave_as_streams(service: PublicService) -> None:
    descriptor = reflection_pool().FindServiceByName(service.name)
    streams = {
        method.name
        for method in descriptor.methods
        if method.server_streaming or method.client_streaming
    }
    assert streams == {
        name
        for name, behaviour in service.methods.items()
        if behaviour in {Behaviour.STREAM, Behaviour.WRITE_STREAM}
    }


def test_every_get_is_a_read() -> None:
    for file in load().file:
        for service in file.service:
            name = f"{file.package}.{service.name}"
            behaviours = next(known for known in MESH_SERVICES if known.name == name).methods
            for method in service.method:
                rule = method.options.Extensions[annotations_pb2.http]
                if rule.get:
                    assert behaviours.get(method.name) is not None, f"{name}/{method.name}"


def test_services_with_json_have_a_path_for_every_method() -> None:
    """But for those that stream both ways: over HTTP/1.1 nobody can."""
    for file in load().file:
        for service in file.service:
            name = f"{file.package}.{service.name}"
            known = next(known for known in MESH_SERVICES if known.name == name)
            with_path = [
                method.options.HasExtension(annotations_pb2.http)
                for method in service.method
                if not (method.client_streaming and method.server_streaming)
            ]
            assert all(with_path) if known.json else not any(with_path)


def test_every_upstream_is_checked_by_a_service_of_its_own() -> None:
    owners = {service.name: service.upstream for service in PUBLIC_SERVICES}
    assert {upstream: owners[name] for upstream, name in HEALTH_NAMES.items()} == {
        upstream: upstream for upstream in Upstream
    }


def test_methods_of_an_unknown_service() -> None:
    with pytest.raises(KeyError):
        method_names("stepwire.api.executor.v1.Nothing")
