"""What a client raises when a server's end of a call has no reason of ours."""

import grpc
import grpc.aio
import pytest

from stepwire.errors import Reason, StepwireError
from stepwire.rpc import open_channel
from stepwire.sdk.failures import raising_ours


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.DEPENDENCY_UNAVAILABLE),
        # What gRPC says of a call that has come while its server was stopping.
        (grpc.StatusCode.CANCELLED, Reason.DEPENDENCY_UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED),
        (grpc.StatusCode.UNKNOWN, Reason.INTERNAL),
    ],
)
async def test_a_bare_status_gives_the_reason_that_says_the_same(code, reason):
    async def refuse(_request, context):
        await context.abort(code, "why")

    server = grpc.aio.server()
    handlers = {"Do": grpc.unary_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Toy", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}", retry_unavailable=False) as channel:
        with pytest.raises(StepwireError) as caught, raising_ours("executor"):
            await channel.unary_unary("/test.Toy/Do")(b"")
    await server.stop(None)
    assert caught.value.reason is reason
    assert caught.value.message == f"executor answered {code.name}: why"
