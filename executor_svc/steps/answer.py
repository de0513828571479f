"""Waiting for another service's answer."""

from collections.abc import Awaitable
from typing import TypeVar

import grpc.aio

from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import from_rpc_error

R = TypeVar("R")


async def answer(call: Awaitable[R], *, service: str) -> R:
    """Return the answer of a call to `service`.

    Raises:
        StepwireError: what the service refused the call with; DEPENDENCY_UNAVAILABLE when
            there was no answer of the service itself.
    """
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        known = from_rpc_error(error)
        if known is not None:
            raise known from error
        raise StepwireError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"{service} does not answer: {error.code().name}: {error.details()}",
            metadata={"dependency": service},
        ) from error
