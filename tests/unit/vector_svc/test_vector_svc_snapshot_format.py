"""Snapshots: whole ones are read, all others refused."""

import pytest

from stepwire.errors import Reason, StepwireError
from vector_svc.engine.records import CollectionConfig, FieldType, Metric, TextOptions
from vector_svc.snapshots.format import MANIFEST, MAX_PART_BYTES, ROWS, Reader, Writer
from vector_svc.snapshots.manifest import config_of, manifest_of

CONFIG = CollectionConfig(
    "things",
    3,
    Metric.DOT,
    fields={"n": FieldType.INT},
    text=TextOptions("text", "english"),
    query_samples=7,
)


def snapshot() -> bytes:
    writer = Writer()
    parts = [writer.begin(manifest_of(CONFIG)), writer.rows(b"abc"), writer.rows(b"defg")]
    return b"".join([*parts, writer.end(rows=2)])


def read(data: bytes, step: int = 7) -> tuple[list[tuple[bytes, bytes]], int]:
    reader = Reader()
    parts = [
        part
        for start in range(0, len(data), step)
        for part in reader.feed(data[start : start + step])
    ]
    return parts, reader.finish()


def fault_of(data: bytes) -> str:
    with pytest.raises(StepwireError) as caught:
        read(data)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID
    return caught.value.metadata["fault"]


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_whole_one_is_read(step: int) -> None:
    parts, rows = read(snapshot(), step)
    assert [kind for kind, _ in parts] == [MANIFEST, ROWS, ROWS]
    assert parts[1:] == [(ROWS, b"abc"), (ROWS, b"defg")]
    assert rows == 2


def test_large_rows_are_cut_into_parts() -> None:
    writer = Writer()
    data = writer.begin({}) + writer.rows(bytes(MAX_PART_BYTES + 1)) + writer.end(rows=1)
    parts, _ = read(data, 1 << 20)
    assert [len(part) for kind, part in parts if kind == ROWS] == [MAX_PART_BYTES, 1]


def test_every_beginning_of_one_is_refused() -> None:
    whole = snapshot()
    for length in range(len(whole)):
        assert fault_of(whole[:length]) == "truncated"


def test_every_changed_byte_is_noticed() -> None:
    whole = snapshot()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        assert fault_of(bytes(changed)) in {"foreign", "version", "damaged", "truncated"}


def test_a_part_that_is_left_out_is_noticed() -> None:
    writer = Writer()
    begin, _, last = writer.begin({}), writer.rows(b"abc"), writer.rows(b"d")
    assert fault_of(begin + last + writer.end(rows=1)) == "damaged"


def test_foreign_bytes_another_version_and_more_at_the_end() -> None:
    assert fault_of(b"PGDMP and more of it") == "foreign"
    assert fault_of(bytes(1_000)) == "foreign"
    assert fault_of(snapshot().replace(b"snapshot 1\n", b"snapshot 2\n", 1)) == "version"
    assert fault_of(snapshot() + b"x") == "trailing"


def test_a_manifest_gives_the_configuration_back() -> None:
    assert config_of(manifest_of(CONFIG), "") == CONFIG
    assert config_of(manifest_of(CONFIG), "other").name == "other"


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": "x"},
        {"dimension": 0},
        {"metric": "nearness"},
        {"index": None},
        {"fields": {"n": "decimal"}},
        {"name": "No name"},
        {"default_ttl_seconds": 1e30},
    ],
)
def test_bad_manifests_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(StepwireError) as caught:
        config_of(manifest_of(CONFIG) | change, "")
    assert caught.value.reason is Reason.SNAPSHOT_INVALID
    assert caught.value.metadata == {"fault": "manifest"}
