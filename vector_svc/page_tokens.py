"""Page tokens of ListCollections: opaque to callers, bound to their tenant. Pure."""

import base64
import binascii
import hashlib

from stepwire.errors import Reason, StepwireError

_DIGEST_BYTES = 8
_FIELD = "page_token"


def make_token(tenant_id: str, last_name: str) -> str:
    """Return the token of the page that begins after the collection `last_name`."""
    name = last_name.encode()
    return base64.urlsafe_b64encode(_digest(tenant_id, name) + name).decode("ascii")


def read_token(tenant_id: str, token: str) -> str:
    """Return the name after which the page begins; "" for the first page.

    Raises:
        StepwireError: PAGE_TOKEN_INVALID, unless `make_token` made it for this tenant.
    """
    if not token:
        return ""
    try:
        data = base64.b64decode(token, altchars=b"-_", validate=True)
        digest, name = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if digest == _digest(tenant_id, name):
            return name.decode()
    except (binascii.Error, ValueError):
        pass
    raise StepwireError(
        Reason.PAGE_TOKEN_INVALID,
        f"{_FIELD}: is not a token that ListCollections gave",
        metadata={"field": _FIELD},
    )


def _digest(tenant_id: str, name: bytes) -> bytes:
    # Not a signature: it only tells another list's or tenant's token from ours.
    return hashlib.blake2b(
        tenant_id.encode() + b"\0" + name, digest_size=_DIGEST_BYTES, person=b"ListCollections"
    ).digest()
