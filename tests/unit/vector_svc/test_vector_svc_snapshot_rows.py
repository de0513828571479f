"""Streams of COPY are cut between rows, wherever their bytes were cut before."""

import random
import struct

import pytest

from stepwire.errors import Reason, StepwireError
from vector_svc.snapshots import rows
from vector_svc.snapshots.format import MAX_PART_BYTES
from vector_svc.snapshots.rows import RowCutter
from vector_svc.store.codecs import COPY_END, COPY_HEADER


def row(*values: bytes | None) -> bytes:
    return struct.pack(">h", len(values)) + b"".join(map(value_of, values))


def value_of(value: bytes | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def stream(*some: bytes) -> bytes:
    return b"".join([COPY_HEADER, *some, COPY_END])


def pieces(data: bytes, step: int) -> list[bytes]:
    cutter = RowCutter(2)
    found = [
        piece
        for start in range(0, len(data), step)
        for piece in cutter.feed(data[start : start + step])
    ]
    last = cutter.finish()
    return [*found, last] if last else found


@pytest.mark.parametrize("step", [1, 2, 3, 19, 64, 10_000])
def test_every_row_is_in_one_piece_in_its_order(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS", 3)
    monkeypatch.setattr(rows, "PIECE_BYTES", 150)
    seeded = random.Random(3)
    some = [
        row(str(n).encode(), seeded.choice([None, b"", b"\xff\xff", b"x" * 70])) for n in range(40)
    ]
    found = pieces(stream(*some), step)
    bare = [piece.removeprefix(COPY_HEADER).removesuffix(COPY_END) for piece in found]
    assert b"".join(bare) == b"".join(some)
    assert all(len(piece) <= 19 + 150 + 90 + 2 for piece in found)
    assert len(found) >= 40 / 3
    assert pieces(stream(), step) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        COPY_HEADER,
        COPY_HEADER[:5],
        b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 1 << 16, 0) + COPY_END,
        stream(row(b"a", b"b"))[:-1],
        stream(row(b"a", b"b")) + b"x",
        stream(row(b"a", b"b"), row(b"a")),
        stream(struct.pack(">hi", 2, -2)),
        stream(struct.pack(">hi", 2, 2**31 - 1)),
        stream(row(b"a", b"b"), COPY_END),
    ],
)
@pytest.mark.parametrize("step", [1, 10_000])
def test_what_are_no_rows_is_refused(data: bytes, step: int) -> None:
    with pytest.raises(StepwireError) as caught:
        pieces(data, step)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID
    assert caught.value.metadata == {"fault": "rows"}


def test_no_row_is_waited_for_without_end() -> None:
    endless = b"".join([COPY_HEADER, struct.pack(">hi", 2, 2**31 - 1), bytes(MAX_PART_BYTES)])
    with pytest.raises(StepwireError, match="too long"):
        pieces(endless, 2**20)
