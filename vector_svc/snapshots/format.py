"""The bytes of a snapshot. Pure.

It begins with a line that tells what it is, and goes on in parts: a letter, the length of
what follows and its CRC-32, both big-endian, and the data. `M` is the manifest, the
collection's configuration as JSON; `R` are rows, a stream of Postgres' binary COPY cut into
pieces; `E` is the end, JSON with the number of rows and the SHA-256 of all bytes before it.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import orjson

from stepwire.errors import Reason, StepwireError

VERSION: Final = 1
MANIFEST: Final = b"M"
ROWS: Final = b"R"
END: Final = b"E"
MAX_PART_BYTES: Final = 16 * 2**20

_NAME: Final = b"stepwire-vector-snapshot "
_LINE: Final = _NAME + b"%d\n" % VERSION
_LONGEST_LINE: Final = len(_NAME) + 12
_HEAD: Final = struct.Struct(">cII")


class Writer:
    """Gives the bytes of a snapshot, part by part."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def begin(self, manifest: dict[str, Any]) -> bytes:
        """Return the first line and the manifest."""
        data = _LINE + _part(MANIFEST, orjson.dumps(manifest))
        self._digest.update(data)
        return data

    def rows(self, data: bytes) -> bytes:
        """Return a piece of the rows."""
        part = b"".join(
            _part(ROWS, data[start : start + MAX_PART_BYTES])
            for start in range(0, len(data), MAX_PART_BYTES)
        )
        self._digest.update(part)
        return part

    def end(self, *, rows: int) -> bytes:
        """Return the last part."""
        return _part(END, orjson.dumps({"rows": rows, "sha256": self._digest.hexdigest()}))


class Reader:
    """Takes the bytes of a snapshot as they come, and gives its parts once they are whole.

    Every method raises StepwireError SNAPSHOT_INVALID.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._begun = False
        self._rows: int | None = None

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take some bytes; yield kind and data of each part that they complete."""
        if self._rows is not None:
            raise invalid("trailing", "there are bytes behind the end")
        self._buffer += data
        if not self._begun and not self._read_line():
            return
        while len(self._buffer) >= _HEAD.size:
            kind, length, crc = _HEAD.unpack_from(self._buffer)
            if kind not in (MANIFEST, ROWS, END) or length > MAX_PART_BYTES:
                raise invalid("damaged", "a part has an impossible head")
            stop = _HEAD.size + length
            if len(self._buffer) < stop:
                return
            part = bytes(self._buffer[:stop])
            del self._buffer[:stop]
            found = part[_HEAD.size :]
            if zlib.crc32(found) != crc:
                raise invalid("damaged", "a part's checksum is wrong")
            if kind == END:
                self._read_end(found)
                return
            self._digest.update(part)
            yield kind, found

    def finish(self) -> int:
        """Return the number of rows, after the last bytes."""
        if self._rows is None:
            raise invalid("truncated", "it has no end")
        return self._rows

    def _read_line(self) -> bool:
        line, newline, _ = self._buffer.partition(b"\n")
        if not _LINE.startswith(line[: len(_NAME)]) or (not newline and len(line) > _LONGEST_LINE):
            raise invalid("foreign", "it does not begin as a snapshot does")
        if not newline:
            return False
        if line + newline != _LINE:
            raise invalid("version", f"only version {VERSION} can be read")
        self._digest.update(_LINE)
        del self._buffer[: len(_LINE)]
        self._begun = True
        return True

    def _read_end(self, data: bytes) -> None:
        end = read_json(data)
        rows = end.get("rows")
        if end.get("sha256") != self._digest.hexdigest() or not isinstance(rows, int):
            raise invalid("damaged", "its checksum is wrong")
        if self._buffer:
            raise invalid("trailing", "there are bytes behind the end")
        self._rows = rows


def read_json(data: bytes) -> dict[str, Any]:
    """Read an object of JSON.

    Raises:
        StepwireError: SNAPSHOT_INVALID.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise invalid("damaged", "a part is not JSON")
    return value


def invalid(fault: str, text: str) -> StepwireError:
    """Return the error for bytes that are no snapshot."""
    return StepwireError(
        Reason.SNAPSHOT_INVALID,
        f"this cannot be restored: {text}",
        metadata={"fault": fault},
    )


def _part(kind: bytes, data: bytes) -> bytes:
    return _HEAD.pack(kind, len(data), zlib.crc32(data)) + data
