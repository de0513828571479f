from pathlib import Path

import pytest

from stepwire.ingest.documents import (
    MAX_PASSAGES,
    PASSAGE_CHARACTERS,
    SECTION_CHARACTERS,
    UnreadableError,
    document_name,
    find_files,
    read_document,
)
from stepwire.sdk.passages import split_text

MEBIBYTE = 1024 * 1024


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_text_files_are_found_below_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in (
        "b.md",
        "a.txt",
        "sub/c.RST",
        "no.pdf",
        ".hidden.md",
        ".git/d.md",
        "sub/e.markdown",
    ):
        write(tmp_path / name, "x")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    names = [document_name(file, folder=tmp_path, label="notes") for file in find_files(tmp_path)]
    assert names == ["notes/a.txt", "notes/b.md", "notes/sub/c.RST", "notes/sub/e.markdown"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("\n# Boats #\n\ntext", "Boats"),
        ("Boats\n=====\n", "Boats"),
        ("\ufeffBoats", "Boats"),
        (f"{'long ' * 30}\n", "file"),
        ("", "file"),
    ],
)
def test_the_title_is_the_first_line_or_the_files_name(
    tmp_path: Path, text: str, title: str
) -> None:
    file = write(tmp_path / "file.md", text or "---")
    document = read_document(file, name="notes/file.md", max_bytes=MEBIBYTE)
    assert [section.title for section in document.sections] == [title]


def test_the_digest_tells_contents_apart(tmp_path: Path) -> None:
    file = write(tmp_path / "a.md", "one")
    first = read_document(file, name="a", max_bytes=10)
    assert read_document(file, name="a", max_bytes=10) == first
    write(file, "two")
    assert read_document(file, name="a", max_bytes=10).digest != first.digest


def test_an_empty_file_has_nothing_to_read(tmp_path: Path) -> None:
    assert read_document(write(tmp_path / "a.md", " \n"), name="a", max_bytes=10).sections == ()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"caf\xe9", "not UTF-8 text: byte 0xe9 at position 3"),
        (b"a\0b", "NUL character"),
        (b"x" * 101, "larger than 100 bytes"),
    ],
)
def test_what_is_not_text_or_too_large_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        read_document(write(tmp_path / "a.md", content), name="a", max_bytes=100)


@pytest.mark.parametrize("name", ["x" * 201, "bad\udce9name", "two\nlines"])
def test_a_name_that_cannot_be_part_of_an_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableError, match="name"):
        read_document(write(tmp_path / "a.md", "x"), name=name, max_bytes=10)


def test_a_file_that_is_gone_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="cannot be opened"):
        read_document(tmp_path / "gone.md", name="gone", max_bytes=10)


def test_a_long_file_is_cut_into_parts_that_a_task_can_take(tmp_path: Path) -> None:
    text = "\n\n".join(["word " * 35] * 1000)
    document = read_document(write(tmp_path / "a.md", text), name="a", max_bytes=MEBIBYTE)
    assert [section.id for section in document.sections] == ["a", "a (section 2)", "a (section 3)"]
    assert "".join("".join(section.text for section in document.sections).split()) == "".join(
        text.split()
    )
    assert all(len(section.text) <= SECTION_CHARACTERS for section in document.sections)


@pytest.mark.parametrize("paragraph", ["x", "word " * 36, "y" * 340, "z" * 176])
def test_no_part_has_more_passages_than_are_deleted_at_once(paragraph: str) -> None:
    section = "\n\n".join([paragraph] * (SECTION_CHARACTERS // (len(paragraph) + 2)))
    assert len(split_text(section, max_characters=PASSAGE_CHARACTERS)) <= MAX_PASSAGES
