"""The text of API keys: how it is made and read, and what is kept of it. Pure.

A key is `sw_ID_SECRET`. The id says which key it is, and is no secret. The secret has 256
random bits, so that a plain SHA-256 of it may be kept: what makes slow, salted hashes
necessary for passwords is that these can be guessed, and nobody guesses 2^256 numbers,
however fast. A fast hash also lets every call be checked.
"""

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "sw"
VARIABLE: Final = "STEPWIRE_API_KEY"
"""The environment variable in which clients look for their key."""

_ID_ALPHABET: Final = string.ascii_lowercase + string.digits
_ID_CHARACTERS: Final = 16
_SECRET_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
# 62^43 is the first power that is more than 2^256.
_SECRET_CHARACTERS: Final = 43
_SECRET_BITS: Final = 256

_ID: Final = f"[a-z0-9]{{{_ID_CHARACTERS}}}"
_TEXT: Final = re.compile(f"{PREFIX}_({_ID})_([0-9A-Za-z]{{{_SECRET_CHARACTERS}}})")
_REFERENCE: Final = re.compile(f"({_ID}):([0-9a-f]{{64}})")


@dataclass(frozen=True, slots=True)
class KeyHash:
    """What is kept of a key: its id, and the SHA-256 of its secret."""

    key_id: str
    digest: bytes = field(repr=False)

    @property
    def reference(self) -> str:
        """The form in which settings may give it: `ID:SHA256`, in hexadecimal digits."""
        return f"{self.key_id}:{self.digest.hex()}"


def new_key_id() -> str:
    """Returns the id of a new key."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_CHARACTERS))


def new_secret() -> str:
    """Returns the secret of a new key."""
    number, digits = secrets.randbits(_SECRET_BITS), []
    for _ in range(_SECRET_CHARACTERS):
        number, digit = divmod(number, len(_SECRET_ALPHABET))
        digits.append(_SECRET_ALPHABET[digit])
    return "".join(digits)


def key_text(key_id: str, secret: str) -> str:
    """Returns the text of a key, with which to call."""
    return f"{PREFIX}_{key_id}_{secret}"


def digest_of(secret: str) -> bytes:
    """Returns what is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def read_key(text: str) -> KeyHash | None:
    """Returns id and hash of a key; None for a text that is no key."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    return KeyHash(match[1], digest_of(match[2]))


def read_reference(text: str) -> KeyHash | None:
    """Reads a key from its text, or from its `reference`; None if it is neither."""
    match = _REFERENCE.fullmatch(text)
    return read_key(text) if match is None else KeyHash(match[1], bytes.fromhex(match[2]))
