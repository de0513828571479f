from typing import Any

import pytest

from stepwire.api.common.v1.payload_pb2 import Payload
from stepwire.payload import json_to_value
from stepwire.sdk.values import from_payload, to_payload


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "ü", [1, [2]], {"a": {"b": None}}])
def test_a_json_value_survives_both_forms(value: Any) -> None:
    assert from_payload(to_payload(value)) == value
    natural = Payload()
    json_to_value(value, natural.json)
    assert from_payload(natural) == value


def test_other_content_is_bytes() -> None:
    assert from_payload(Payload(data=b"\x89PNG", content_type="image/png")) == b"\x89PNG"


def test_an_empty_payload_is_null() -> None:
    assert from_payload(Payload()) is None


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError):
        to_payload(object())
