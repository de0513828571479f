"""Gives every call a request id and a tenant, and makes them the current call's."""

from stepwire.call import DEFAULT_TENANT, CallInfo, enter_call, new_request_id
from stepwire.errors import field_invalid
from stepwire.rpc import metadata
from stepwire.rpc.interceptors.chain import Call, CallFailed
from stepwire.telemetry import is_sampled, is_traceparent

_MAX_ID_CHARACTERS = 128


def identity(call: Call) -> None:
    """Sets the call's context; answers with the request id in the trailing metadata.

    A request id that is longer than an id has reason to be is replaced: it would go
    into every log line. A tenant with such an id is refused: nobody could keep anything
    under it. The context names the caller's trace if that is not sampled; for
    one that is, the call's span will.
    """
    request_id: str = call.metadata.get(metadata.REQUEST_ID, "")
    if not request_id or len(request_id) > _MAX_ID_CHARACTERS:
        request_id = new_request_id()
    tenant_id: str = call.metadata.get(metadata.TENANT_ID) or DEFAULT_TENANT
    if len(tenant_id) > _MAX_ID_CHARACTERS:
        raise CallFailed(
            field_invalid(metadata.TENANT_ID, f"must be at most {_MAX_ID_CHARACTERS} characters")
        )
    traceparent: str = call.metadata.get(metadata.TRACEPARENT, "")
    if is_sampled(traceparent) or not is_traceparent(traceparent):
        traceparent = ""
    call.info = CallInfo(tenant_id, request_id, traceparent=traceparent)
    enter_call(call.info)
    call.context.set_trailing_metadata(((metadata.REQUEST_ID, request_id),))
