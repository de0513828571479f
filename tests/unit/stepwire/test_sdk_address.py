import pytest

from stepwire.errors import Reason, StepwireError
from stepwire.sdk.address import Address, open_gateway, read_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8080", Address("localhost:8080", tls=False)),
        ("http://localhost:8080/", Address("localhost:8080", tls=False)),
        ("https://gateway.example", Address("gateway.example:443", tls=True)),
        ("https://[::1]:8443", Address("[::1]:8443", tls=True)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize("text", ["ftp://a", "https://", "https://a/path", "https://a?b=c"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(StepwireError) as caught:
        read_address(text)
    assert caught.value.reason is Reason.FIELD_INVALID


@pytest.mark.parametrize("key", ["sw_…", "sw_a\nsw_b"])
def test_a_key_that_no_header_can_hold_is_refused_before_a_call(key: str) -> None:
    with pytest.raises(StepwireError) as caught:
        open_gateway(Address("localhost:8080", tls=False), api_key=key)
    assert caught.value.metadata == {"field": "api_key"}
    assert key not in caught.value.message
