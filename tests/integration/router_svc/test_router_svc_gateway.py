"""Streams and deadlines through a real gateway, from the client to the provider."""

from typing import Any

import grpc.aio
import pytest

from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.requirements_pb2 import Requirements
from stepwire.errors import Reason
from stepwire.rpc.status import from_rpc_error
from stepwire.testing.fleet import EndpointPlan
from stepwire.testing.fleet.latency import Constant
from stepwire.testing.poll import eventually
from tests.integration.router_svc.house import House
from tests.integration.router_svc.running_router import ask, error_of, report

EAST = Requirements(model="east")


def stream_of(house: House, **arguments: Any) -> Any:
    request = pb.StreamGenerateRequest(request=ask(requirements=EAST))
    return house.stub.StreamGenerate(request, **arguments)


def slowly() -> EndpointPlan:
    return EndpointPlan(
        name="east", token_seconds=Constant(value=0.01), answer_tokens=Constant(value=10_000)
    )


async def test_pieces_come_as_they_are_written_and_the_account_at_last(house: House) -> None:
    pieces = [piece async for piece in stream_of(house)]
    assert len([piece for piece in pieces if piece.text]) == 16
    assert pieces[-1].end.usage.output_tokens == 16


async def test_a_client_that_cancels_ends_the_providers_work(house: House) -> None:
    house.east.reset(slowly())
    call = stream_of(house)
    assert (await anext(aiter(call))).text
    call.cancel()
    await eventually(lambda: house.east.account.totals.abandoned == 1)
    assert house.east.account.totals.completion_tokens < 1_000


async def test_a_stream_ends_at_the_clients_deadline_and_so_does_the_providers_work(
    house: House,
) -> None:
    house.east.reset(slowly())
    call = stream_of(house, timeout=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [piece async for piece in call]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: house.east.account.totals.abandoned == 1)


@pytest.mark.parametrize("fault", ["cut", "garbage", "disconnect"])
async def test_a_stream_that_breaks_off_says_why(house: House, fault: str) -> None:
    house.east.fail(fault, times=9, after_tokens=3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [piece async for piece in stream_of(house)]
    error = from_rpc_error(caught.value)
    assert error is not None
    broken = Reason.MODELS_EXHAUSTED if fault == "disconnect" else Reason.PROVIDER_UNAVAILABLE
    assert error.reason is broken


async def test_who_is_called_has_less_time_than_who_calls(house: House) -> None:
    quotes = Requirements(model="quotes")
    for timeout in (10.0, 20.0, 30.0):
        request = ask(requirements=quotes, documents=[report()])
        await house.stub.Generate(request, timeout=timeout)
    left = [seconds or 0.0 for seconds in house.model_service.time_left]
    # From the client over gateway and router to the service; each keeps some for its answer.
    assert [0 < seconds < given for seconds, given in zip(left, (10, 20, 30), strict=True)]
    assert left == sorted(left)


async def test_the_router_tells_that_time_is_over_before_the_gateway_does(house: House) -> None:
    house.east.fail("hang", times=99)
    calls = 0

    # The time that is kept for the answer may be too short on a busy machine.
    async def told() -> bool:
        nonlocal calls
        calls += 1
        error = await error_of(house.stub.Generate(ask(requirements=EAST), timeout=0.5))
        assert error.reason is Reason.DEADLINE_EXCEEDED
        return error.metadata.get("attempts") == "0"

    assert await eventually(told)
    await eventually(lambda: house.east.account.totals.abandoned == calls)
