"""A stream of Postgres' binary COPY cut into several, each of some whole rows. Pure.

The rows of a collection would be one statement of hours otherwise, of which nobody sees how
far it is, and at whose end the words of all texts were indexed at once.
"""

import struct
from collections.abc import Iterator
from typing import Final

from stepwire.errors import StepwireError
from vector_svc.snapshots.format import MAX_PART_BYTES, invalid
from vector_svc.store.codecs import COPY_END, COPY_HEADER

# Of every row, in this order.
COLUMNS: Final = ("id", "embedding", "payload", "updated_at", "expires_at")
# Whichever is reached first ends a piece.
PIECE_ROWS: Final = 2_000
PIECE_BYTES: Final = 4 * 2**20

_COUNT: Final = struct.Struct(">h")
_LENGTH: Final = struct.Struct(">i")
_NO_MORE: Final = -1
_NULL: Final = -1


class RowCutter:
    """Takes the bytes of one stream as they come, and gives smaller streams.

    Every method raises StepwireError SNAPSHOT_INVALID.

    Args:
        columns: How many every row has.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._buffer = bytearray()
        self._begun = False
        self._ended = False
        # Up to where the buffer was seen to hold whole rows, and how many.
        self._whole = 0
        self._rows = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take some bytes; yield the streams that they complete."""
        self._buffer += data
        if not self._begun and not self._read_header():
            return
        while (stop := self._next_row(self._whole)) is not None:
            self._whole = stop
            self._rows += 1
            if self._rows == PIECE_ROWS or self._whole >= PIECE_BYTES:
                yield self._cut()
        if len(self._buffer) - self._whole > MAX_PART_BYTES:
            raise _unreadable("a row is too long")

    def finish(self) -> bytes:
        """Return the last stream, after the last bytes; b"" if no row is left."""
        if not self._ended:
            raise _unreadable("they have no end")
        return self._cut() if self._rows else b""

    def _read_header(self) -> bool:
        if len(self._buffer) < len(COPY_HEADER):
            return False
        if not self._buffer.startswith(COPY_HEADER):
            raise _unreadable("they do not begin as rows do")
        del self._buffer[: len(COPY_HEADER)]
        self._begun = True
        return True

    def _next_row(self, start: int) -> int | None:
        """Return where the row ends that begins at `start`; None if it is not whole yet."""
        buffer = self._buffer
        size = len(buffer)
        if self._ended:
            if size > start:
                raise _unreadable("there are bytes behind their end")
            return None
        if size < start + _COUNT.size:
            return None
        [columns] = _COUNT.unpack_from(buffer, start)
        if columns == _NO_MORE:
            self._ended = True
            del buffer[start : start + _COUNT.size]
            return self._next_row(start)
        if columns != self._columns:
            raise _unreadable("a row has other columns")
        place = start + _COUNT.size
        for _ in range(columns):
            if size < place + _LENGTH.size:
                return None
            [length] = _LENGTH.unpack_from(buffer, place)
            if length < _NULL:
                raise _unreadable("a value has an impossible length")
            place += _LENGTH.size + max(length, 0)
        return place if size >= place else None

    def _cut(self) -> bytes:
        piece = b"".join((COPY_HEADER, self._buffer[: self._whole], COPY_END))
        del self._buffer[: self._whole]
        self._whole = self._rows = 0
        return piece


def _unreadable(why: str) -> StepwireError:
    return invalid("rows", f"its rows are not those of such a collection: {why}")
