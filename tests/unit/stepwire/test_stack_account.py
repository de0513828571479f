"""Which folders another account can go to."""

from pathlib import Path

import pytest

from stepwire.stack import account
from stepwire.stack.account import can_enter, reachable_copy, reachable_folder

NOBODY = "nobody"


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(account, "SHARED_FOLDER", tmp_path / "shared")
    return tmp_path / "shared"


@pytest.fixture
def open_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives a folder whose parents are taken to be open to all."""
    folder = tmp_path / "open"
    folder.mkdir()
    monkeypatch.setattr(account.Path, "parents", property(lambda path: parents(path, tmp_path)))
    return folder


def parents(path: Path, below: Path) -> list[Path]:
    found = []
    while path != below:
        path = path.parent
        found.append(path)
    return found[:-1]


def test_a_closed_folder_on_the_way_cannot_be_entered(open_folder: Path) -> None:
    inside = open_folder / "a" / "b"
    inside.mkdir(parents=True)
    assert can_enter(inside, NOBODY)
    (open_folder / "a").chmod(0o700)
    assert not can_enter(inside, NOBODY)
    assert can_enter(open_folder / "a", NOBODY), "only what is above counts"


def test_the_owner_can_enter_a_private_folder() -> None:
    assert can_enter(Path("/root/x"), "root")
    assert can_enter(Path("/not/there/yet"), NOBODY)


def test_an_unreachable_folder_gets_a_stand_in_of_its_own(open_folder: Path, shared: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    first = reachable_folder(closed / "one" / "postgres", NOBODY)
    second = reachable_folder(closed / "two" / "postgres", NOBODY)
    assert first.is_relative_to(shared)
    assert first.name == "postgres"
    assert first != second
    assert reachable_folder(closed / "one" / "postgres", None) == closed / "one" / "postgres"
    assert closed.stat().st_mode & 0o777 == 0o700, "permissions are never widened"


def test_unreachable_programs_are_copied_once_for_all(open_folder: Path, shared: Path) -> None:
    closed = open_folder / "closed"
    programs = closed / "pg"
    (programs / "bin").mkdir(parents=True)
    (programs / "bin" / "postgres").write_text("#!/bin/sh\n")
    (programs / "bin" / "postgres").chmod(0o700)
    closed.chmod(0o700)
    copy = reachable_copy(programs, NOBODY, version="1")
    assert copy == shared / "pg-1"
    assert (copy / "bin" / "postgres").stat().st_mode & 0o777 == 0o755
    assert reachable_copy(programs, NOBODY, version="1") == copy
    assert reachable_copy(programs, NOBODY, version="2") != copy
    assert reachable_copy(programs, None, version="1") == programs
    assert sorted(path.name for path in shared.iterdir()) == ["pg-1", "pg-2"]
