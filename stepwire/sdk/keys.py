"""Keys: who may call the gateway, for programs."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import grpc.aio

from stepwire.api.gateway.v1 import key_service_pb2 as pb
from stepwire.api.gateway.v1.key_service_pb2_grpc import KeyServiceAsyncStub, KeyServiceStub
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.requests import new_request_id


@dataclass(frozen=True, slots=True)
class RevealedKey:
    """A key, and the text that it was just given; empty if it was given none."""

    key: pb.Key
    text: str = field(default="", repr=False)


class Keys:
    """Makes and ends keys. Every method raises `StepwireError`.

    Args:
        channel: To the gateway, with a key that has the scope ADMIN; the caller closes it.
        target: What `channel` leads to, for error messages.
        timeout: Longest time for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, *, target: str, timeout: timedelta) -> None:
        self._stub: KeyServiceAsyncStub = KeyServiceStub(channel)
        self._target = target
        self._timeout_seconds = timeout.total_seconds()

    async def create(
        self,
        name: str,
        *,
        tenant_id: str = "",
        scopes: Sequence["pb.KeyScope.ValueType"] = (),
        lifetime: timedelta | None = None,
    ) -> RevealedKey:
        """Makes a key; its text is shown only here.

        Args:
            name: What people call it.
            tenant_id: Whose data it sees; empty means the caller's tenant's.
            scopes: What calls it allows; empty means READ and WRITE.
            lifetime: How long it is good; None means until it is revoked.
        """
        request = pb.CreateKeyRequest(
            name=name, tenant_id=tenant_id, scopes=scopes, request_id=new_request_id()
        )
        if lifetime is not None:
            request.lifetime.FromTimedelta(lifetime)
        with raising_ours(self._target):
            response = await self._stub.CreateKey(request, timeout=self._timeout_seconds)
        return RevealedKey(response.key, response.key_text)

    async def find(self, *, tenant_id: str = "", page_size: int = 100) -> AsyncIterator[pb.Key]:
        """Yields keys, oldest first; those of one tenant, or of all."""
        request = pb.ListKeysRequest(tenant_id=tenant_id, page_size=page_size)
        while True:
            with raising_ours(self._target):
                response = await self._stub.ListKeys(request, timeout=self._timeout_seconds)
            for key in response.keys:
                yield key
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    async def revoke(self, key_id: str) -> pb.Key:
        """Ends a key for good."""
        request = pb.RevokeKeyRequest(key_id=key_id)
        with raising_ours(self._target):
            response = await self._stub.RevokeKey(request, timeout=self._timeout_seconds)
        return response.key

    async def rotate(self, key_id: str, *, overlap: timedelta | None = None) -> RevealedKey:
        """Gives a key another secret; returns its new text.

        Args:
            key_id: The key.
            overlap: How long the secret before is good yet; None means a day.
        """
        request = pb.RotateKeyRequest(key_id=key_id, request_id=new_request_id())
        if overlap is not None:
            request.overlap.FromTimedelta(overlap)
        with raising_ours(self._target):
            response = await self._stub.RotateKey(request, timeout=self._timeout_seconds)
        return RevealedKey(response.key, response.key_text)
