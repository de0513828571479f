"""Reflection of the whole mesh: every public service, from the descriptor set."""

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from gateway.descriptors import load
from gateway.mesh import PUBLIC_SERVICES, REFLECTION, REFLECTION_ALPHA
from stepwire.rpc import Service

_ALPHA_PACKAGE, _PACKAGE = "grpc.reflection.v1alpha", "grpc.reflection.v1"


def reflection_services() -> list[Service]:
    """Returns reflection under its present and its older name.

    The two protocols are the same, message for message; only the package's name
    differs, and the library brings the older one only.
    """
    servicer = reflection.aio.ReflectionServicer(
        [service.name for service in PUBLIC_SERVICES], pool=reflection_pool()
    )

    def add_present(server: grpc.aio.Server) -> None:
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(REFLECTION, {"ServerReflectionInfo": handler}),)
        )

    def add_alpha(server: grpc.aio.Server) -> None:
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)

    return [Service(REFLECTION, add_present), Service(REFLECTION_ALPHA, add_alpha)]


def reflection_pool() -> DescriptorPool:
    """Returns the descriptors of all public services.

    A pool of its own: the stubs' pool knows some files under other names than the
    protos have.
    """
    pool = DescriptorPool()
    for file in load().file:
        pool.Add(file)
    alpha = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(FileDescriptorProto.FromString(health_pb2.DESCRIPTOR.serialized_pb))
    pool.Add(alpha)
    pool.Add(_present(alpha))
    return pool


def _present(alpha: FileDescriptorProto) -> FileDescriptorProto:
    file = FileDescriptorProto()
    file.CopyFrom(alpha)
    file.name = alpha.name.replace("v1alpha", "v1")
    file.package = _PACKAGE
    for message in file.message_type:
        for field in (field for field in message.field if field.type_name):
            field.type_name = field.type_name.replace(f".{_ALPHA_PACKAGE}.", f".{_PACKAGE}.")
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(_ALPHA_PACKAGE, _PACKAGE)
            method.output_type = method.output_type.replace(_ALPHA_PACKAGE, _PACKAGE)
    return file
