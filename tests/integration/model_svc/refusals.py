"""Reading the errors that calls are answered with."""

from collections.abc import Awaitable

import grpc
import grpc.aio
import pytest

from stepwire.errors import StepwireError
from stepwire.rpc.status import from_rpc_error


async def refusal(call: Awaitable[object], code: grpc.StatusCode) -> StepwireError:
    """Awaits a call that must fail with `code`; returns its error."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is code
    error = from_rpc_error(raised.value)
    assert error is not None
    return error
