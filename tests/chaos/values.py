"""The values that steps compute, so that a wrong one shows anywhere downstream. Pure.

A step's output is `{"v": digest, "by": nonce}`: the digest depends on the step and on the
digests in its input, and is the same for every execution; the nonce tells which execution
it was.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any


def digest(step_id: str, value: Any) -> str:
    """The digest of a step that was given `value`."""
    text = json.dumps([step_id, without_nonces(value)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def without_nonces(value: Any) -> Any:
    """Replace every output in a value by its digest."""
    match value:
        case {"v": str(v), "by": str()}:
            return v
        case dict():
            return {name: without_nonces(member) for name, member in value.items()}
        case list():
            return [without_nonces(member) for member in value]
    return value


def nonces(value: Any) -> Iterator[str]:
    """The nonces of the outputs in a value."""
    match value:
        case {"v": str(), "by": str(by)}:
            yield by
        case dict():
            for member in value.values():
                yield from nonces(member)
        case list():
            for member in value:
                yield from nonces(member)
