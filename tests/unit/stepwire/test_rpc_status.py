import re
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from stepwire.api.errors.v1 import error_reason_pb2
from stepwire.errors import FieldFault, Reason, StepwireError, field_invalid
from stepwire.rpc.status import CODES, DETAILS_KEY, from_proto, from_rpc_error, to_proto, to_status

PREFIX = "ERROR_REASON_"
PROTO = Path(__file__).parents[3] / "protos/stepwire/api/errors/v1/error_reason.proto"


def codes_in_the_contract():
    """Each reason's code as the proto file's comment above it says it."""
    codes, comment = {}, ""
    for line in PROTO.read_text().splitlines():
        text = line.strip()
        if text.startswith("//"):
            comment += text
        elif value := re.match(rf"{PREFIX}(\w+) = \d+;", text):
            if code := re.search(r"Code ([A-Z_]+)", comment):
                codes[value[1]] = code[1]
            comment = ""
    return codes


def error_with_everything():
    return StepwireError(
        Reason.OVERLOADED,
        "full",
        metadata={"limit": "max_streams"},
        faults=[FieldFault("a", "is b")],
        retry_after=timedelta(milliseconds=1500),
    )


def rpc_error(status):
    return grpc.aio.AioRpcError(
        code=status.code,
        details=status.details,
        initial_metadata=grpc.aio.Metadata(),
        trailing_metadata=grpc.aio.Metadata(*status.trailing_metadata),
    )


def test_the_reasons_are_those_of_the_proto():
    names = {name.removeprefix(PREFIX) for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert {reason.name for reason in Reason} == names - {"UNSPECIFIED"}


def test_every_reason_has_a_code_that_is_an_error():
    assert set(CODES) == set(Reason)
    assert grpc.StatusCode.OK not in CODES.values()


def test_the_codes_are_those_of_the_contract():
    contract = codes_in_the_contract()
    assert len(contract) > 20
    assert {name: CODES[Reason[name]].name for name in contract} == contract


@pytest.mark.parametrize("reason", list(Reason))
def test_a_status_carries_exactly_one_error_info(reason):
    status = to_proto(StepwireError(reason, "text", metadata={"key": "value"}))
    infos = [d for d in status.details if d.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == len(status.details) == 1
    info = error_details_pb2.ErrorInfo.FromString(infos[0].value)
    assert (info.reason, info.domain) == (reason.value, "stepwire")
    assert dict(info.metadata) == {"key": "value"}
    assert status.code == CODES[reason].value[0]


def test_an_error_comes_back_from_its_status_as_it_was():
    error = error_with_everything()
    again = from_rpc_error(rpc_error(to_status(error, "request-1")))
    assert vars(again) == vars(error)


def test_an_internal_error_names_the_request():
    status = to_status(StepwireError(Reason.INTERNAL, "text"), "request-1")
    assert from_rpc_error(rpc_error(status)).metadata == {"request_id": "request-1"}


def test_other_errors_are_not_given_a_request_id():
    status = to_status(field_invalid("a", "b"), "request-1")
    assert "request_id" not in from_rpc_error(rpc_error(status)).metadata


def test_a_code_that_is_passed_on_wins_over_the_table():
    error = field_invalid("a", "b")
    status = to_status(error, "", code=grpc.StatusCode.OUT_OF_RANGE)
    assert status.code is grpc.StatusCode.OUT_OF_RANGE
    assert to_proto(error, code=grpc.StatusCode.OUT_OF_RANGE).code == status.code.value[0]


def test_a_status_without_details_is_not_ours():
    status = to_status(field_invalid("a", "b"), "")
    bare = grpc.aio.AioRpcError(
        status.code, grpc.aio.Metadata(), grpc.aio.Metadata(), status.details
    )
    assert from_rpc_error(bare) is None


@pytest.mark.parametrize(
    "info",
    [
        error_details_pb2.ErrorInfo(reason="FIELD_INVALID", domain="elsewhere.example"),
        error_details_pb2.ErrorInfo(reason="NOT_ONE_OF_OURS", domain="stepwire"),
    ],
)
def test_an_error_of_another_system_is_not_ours(info):
    status = status_pb2.Status(code=3, message="text")
    detail = any_pb2.Any()
    detail.Pack(info)
    status.details.append(detail)
    assert from_proto(status) is None


def test_a_long_error_is_cut_to_what_peers_accept_and_keeps_its_reason():
    error = StepwireError(
        Reason.NO_ELIGIBLE_MODEL,
        "ä" * 50_000,
        metadata={f"rejected.model-{number}": "x" * 10_000 for number in range(100)},
        faults=[FieldFault("f" * 300, "y" * 10_000)] * 50,
    )
    status = to_status(error, "")
    ((key, value),) = status.trailing_metadata
    assert key == DETAILS_KEY
    # Base 64 adds a third, and percent-encoding makes three bytes of one.
    assert len(value) * 4 / 3 + len(status.details.encode()) * 3 < 8000
    again = from_rpc_error(rpc_error(status))
    assert again.reason is Reason.NO_ELIGIBLE_MODEL
    assert next(iter(again.metadata)).startswith("rejected.model-")
