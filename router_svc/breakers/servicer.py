"""BreakerService over gRPC: decode, one call of the domain, encode."""

from datetime import timedelta

import grpc.aio

from router_svc.breakers.operating import BreakerOperations, BreakerView
from router_svc.breakers.records import BreakerState
from stepwire.api.router.v1 import breaker_service_pb2 as pb
from stepwire.api.router.v1.breaker_service_pb2_grpc import BreakerServiceServicer
from stepwire.errors import field_invalid

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["BreakerService"].full_name
MAX_MESSAGE_CHARACTERS = 200
MAX_DURATION = timedelta(days=365)

_Context = grpc.aio.ServicerContext[object, object]
_STATES = {
    BreakerState.CLOSED: pb.BREAKER_STATE_CLOSED,
    BreakerState.OPEN: pb.BREAKER_STATE_OPEN,
    BreakerState.HALF_OPEN: pb.BREAKER_STATE_HALF_OPEN,
}


class BreakerServicer(BreakerServiceServicer):
    """Errors are raised as `StepwireError`; the server's interceptors answer with them."""

    def __init__(self, breakers: BreakerOperations) -> None:
        self._breakers = breakers

    async def ListBreakers(
        self, request: pb.ListBreakersRequest, context: _Context
    ) -> pb.ListBreakersResponse:
        found = self._breakers.list(open_only=request.open_only)
        return pb.ListBreakersResponse(breakers=[_breaker(each) for each in found])

    async def OpenBreaker(
        self, request: pb.OpenBreakerRequest, context: _Context
    ) -> pb.OpenBreakerResponse:
        if len(request.message) > MAX_MESSAGE_CHARACTERS or "\0" in request.message:
            raise field_invalid(
                "message", f"must be at most {MAX_MESSAGE_CHARACTERS} characters, without U+0000"
            )
        opened = self._breakers.open(
            request.name, message=request.message, duration=_duration(request)
        )
        return pb.OpenBreakerResponse(breaker=_breaker(opened))

    async def ResetBreaker(
        self, request: pb.ResetBreakerRequest, context: _Context
    ) -> pb.ResetBreakerResponse:
        return pb.ResetBreakerResponse(breaker=_breaker(self._breakers.reset(request.name)))


def _duration(request: pb.OpenBreakerRequest) -> timedelta | None:
    if not request.HasField("duration"):
        return None
    seconds = request.duration.seconds + request.duration.nanos / 1e9
    if not 0 < seconds <= MAX_DURATION.total_seconds():
        raise field_invalid("duration", f"must be above 0 and at most {MAX_DURATION.days} days")
    return timedelta(seconds=seconds)


def _breaker(view: BreakerView) -> pb.Breaker:
    told = pb.Breaker(name=view.name, state=_STATES[view.state], failures=view.failures)
    if view.opening is not None:
        told.cause = view.opening.cause.kind.value
        told.message = view.opening.cause.message
        told.openings = view.opening.openings
        told.forced = view.opening.forced
    if view.open_until is not None:
        told.open_until.FromDatetime(view.open_until)
    return told
