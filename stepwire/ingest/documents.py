"""Finds and reads a person's text files."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stepwire.sdk.passages import split_text

SUFFIXES: Final = frozenset({".txt", ".md", ".markdown", ".rst"})

PASSAGE_CHARACTERS: Final = 350
"""Longest passage."""

SECTION_CHARACTERS: Final = 60_000
"""Longest section of a file for one task, so that its vectors fit into a step's output."""

MAX_PASSAGES: Final = 512
"""More passages than a section can have: two neighbours are longer than one may be."""

_MAX_NAME_CHARACTERS = 200
_MAX_TITLE_CHARACTERS = 100


class UnreadableError(Exception):
    """A file cannot be ingested; the message says why."""


@dataclass(frozen=True, slots=True)
class Section:
    """A file's text, or a piece of a long one.

    Attributes:
        id: Begins the ids of its passages: the file's name, with the section's number from 2 on.
        title: The file's title.
        text: The text.
    """

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read.

    Attributes:
        name: The folder's label and the path in the folder, with `/` between.
        digest: Of its bytes, in hexadecimal digits.
        sections: Its text; none if there is nothing to read in it.
    """

    name: str
    digest: str
    sections: tuple[Section, ...]


def find_files(folder: Path) -> Iterator[Path]:
    """Yields the text files below a folder by name, without hidden ones.

    Folders that are symbolic links are not entered.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent, name)


def document_name(file: Path, *, folder: Path, label: str) -> str:
    """Returns the name of a file's document."""
    return f"{label}/{file.relative_to(folder).as_posix()}"


def read_document(file: Path, *, name: str, max_bytes: int) -> Document:
    """Reads a file.

    Raises:
        UnreadableError: It is too large, is not UTF-8 text, or cannot be opened; or its name
            cannot stand in an id.
    """
    _check_name(name)
    data = _read(file, max_bytes)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"is not UTF-8 text: byte {data[error.start]:#04x} at position {error.start}"
        ) from None
    if "\0" in text:
        raise UnreadableError("has a NUL character in it, so it is not text")
    title = _title(text) or file.stem
    sections = split_text(text, max_characters=SECTION_CHARACTERS)
    return Document(
        name=name,
        digest=hashlib.sha256(data).hexdigest(),
        sections=tuple(
            Section(id=section_id(name, number), title=title, text=section.text)
            for number, section in enumerate(sections, start=1)
        ),
    )


def section_id(name: str, number: int) -> str:
    """Returns the id of a document's section, counted from 1."""
    return name if number == 1 else f"{name} (section {number})"


def _check_name(name: str) -> None:
    if len(name) > _MAX_NAME_CHARACTERS:
        raise UnreadableError(f"has a name of more than {_MAX_NAME_CHARACTERS} characters")
    if not name.isprintable():
        raise UnreadableError("has a name that is not printable text")


def _read(file: Path, max_bytes: int) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}") from None
    if len(data) > max_bytes:
        raise UnreadableError(f"is larger than {max_bytes:,} bytes")
    return data


def _title(text: str) -> str:
    """Returns the first line that says something, if it is short enough for a title."""
    for line in text.splitlines():
        title = line.strip().strip("#*=~-`").strip()
        if title:
            return title if len(title) <= _MAX_TITLE_CHARACTERS else ""
    return ""
