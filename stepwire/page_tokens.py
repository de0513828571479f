"""Page tokens of lists: opaque to callers, bound to their list and tenant. Pure."""

import base64
import binascii
import hashlib

from stepwire.errors import Reason, StepwireError

_DIGEST_BYTES = 8
_FIELD = "page_token"


class PageTokens:
    """The tokens of one list.

    Args:
        listing: Name of the call that lists, such as `ListTasks`.
    """

    def __init__(self, listing: str) -> None:
        self._listing = listing

    def make(self, tenant_id: str, last: str) -> str:
        """Returns the token of the page that begins behind the entry `last`."""
        data = last.encode()
        return base64.urlsafe_b64encode(self._digest(tenant_id, data) + data).decode("ascii")

    def read(self, tenant_id: str, token: str) -> str:
        """Returns the entry behind which the page begins; "" for the first page.

        Raises:
            StepwireError: PAGE_TOKEN_INVALID, unless `make` made it for this tenant.
        """
        if not token:
            return ""
        try:
            data = base64.b64decode(token, altchars=b"-_", validate=True)
            digest, last = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
            if digest == self._digest(tenant_id, last):
                return last.decode()
        except (binascii.Error, ValueError):
            pass
        raise StepwireError(
            Reason.PAGE_TOKEN_INVALID,
            f"{_FIELD}: is not a token that {self._listing} gave",
            metadata={"field": _FIELD},
        )

    def _digest(self, tenant_id: str, last: bytes) -> bytes:
        # Not a signature: it only tells another list's or tenant's token from ours.
        return hashlib.blake2b(
            f"{self._listing}\0{tenant_id}\0".encode() + last, digest_size=_DIGEST_BYTES
        ).digest()
