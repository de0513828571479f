"""KeyService over gRPC: decode, one call of the domain, encode."""

from typing import Any

import grpc.aio

from gateway.keys import codec
from gateway.keys.registry import Keys
from gateway.keys.rules import check_request_id
from stepwire.api.gateway.v1 import key_service_pb2 as pb
from stepwire.api.gateway.v1.key_service_pb2_grpc import KeyServiceServicer
from stepwire.call import current_call
from stepwire.errors import Reason, StepwireError

_Context = grpc.aio.ServicerContext[Any, Any]


class KeyServicer(KeyServiceServicer):
    """See protos/stepwire/api/gateway/v1/key_service.proto.

    Whoever calls has a key with the scope ADMIN: the gateway has seen to that.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def CreateKey(
        self, request: pb.CreateKeyRequest, context: _Context
    ) -> pb.CreateKeyResponse:
        made = await self._keys.create(
            codec.new_key_of(request, tenant_id=current_call().tenant_id),
            lifetime=codec.lifetime_of(request),
            request_id=check_request_id(request.request_id),
        )
        response = pb.CreateKeyResponse(key_text=made.text)
        codec.write_key(made.key, response.key)
        return response

    async def ListKeys(self, request: pb.ListKeysRequest, context: _Context) -> pb.ListKeysResponse:
        size = codec.page_size_of(request.page_size)
        after = codec.PAGES.read(request.tenant_id, request.page_token)
        found = await self._keys.list(tenant_id=request.tenant_id, after=after, limit=size + 1)
        response = pb.ListKeysResponse()
        for key in found[:size]:
            codec.write_key(key, response.keys.add())
        if len(found) > size:
            response.next_page_token = codec.PAGES.make(request.tenant_id, found[size - 1].key_id)
        return response

    async def RevokeKey(
        self, request: pb.RevokeKeyRequest, context: _Context
    ) -> pb.RevokeKeyResponse:
        response = pb.RevokeKeyResponse()
        codec.write_key(await self._keys.revoke(request.key_id), response.key)
        return response

    async def RotateKey(
        self, request: pb.RotateKeyRequest, context: _Context
    ) -> pb.RotateKeyResponse:
        rotated = await self._keys.rotate(
            request.key_id,
            overlap=codec.overlap_of(request),
            request_id=check_request_id(request.request_id),
        )
        response = pb.RotateKeyResponse(key_text=rotated.text)
        codec.write_key(rotated.key, response.key)
        return response


class NoKeysServicer(KeyServiceServicer):
    """Answers where no keys are kept."""

    async def CreateKey(
        self, request: pb.CreateKeyRequest, context: _Context
    ) -> pb.CreateKeyResponse:
        raise _off()

    async def ListKeys(self, request: pb.ListKeysRequest, context: _Context) -> pb.ListKeysResponse:
        raise _off()

    async def RevokeKey(
        self, request: pb.RevokeKeyRequest, context: _Context
    ) -> pb.RevokeKeyResponse:
        raise _off()

    async def RotateKey(
        self, request: pb.RotateKeyRequest, context: _Context
    ) -> pb.RotateKeyResponse:
        raise _off()


def _off() -> StepwireError:
    return StepwireError(Reason.KEYS_OFF, "the gateway asks for no keys here, and keeps none")
