"""Which folders another account can go to."""

from pathlib import Path

import pytest

from stepwire.stack import account
from stepwire.stack.account import can_enter, reachable_copy, reachable_folder, stand_ins

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
    monkeypatch.setattr(Path, "parents", property(lambda path: parents(path, tmp_path)))
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
    first = reachable_folder(closed / "one" / "postgres", NOBODY, key="a")
    others = [
        reachable_folder(closed / "two" / "postgres", NOBODY, key="a"),
        reachable_folder(closed / "one" / "postgres", NOBODY, key="b"),
    ]
    assert first.is_relative_to(shared)
    assert first.name == "postgres"
    assert first not in others
    mine = closed / "one" / "postgres"
    assert reachable_folder(mine, None, key="a") == mine
    for folder in (first, *others):
        folder.mkdir(parents=True)
    assert sorted(stand_ins(mine)) == sorted([first.parent, others[1].parent])
    assert closed.stat().st_mode & 0o777 == 0o700, "permissions are never widened"


def test_unreachable_programs_are_copied_once_for_all(open_folder: Path, shared: Path) -> None:
    site = open_folder / "closed"
    (site / "pg" / "bin").mkdir(parents=True)
    (site / "pg" / "bin" / "postgres").write_text("#!/bin/sh\n")
    (site / "pg" / "bin" / "postgres").chmod(0o700)
    (site / "other").mkdir()
    site.chmod(0o700)
    needed = ["pg", "missing"]
    copy = reachable_copy(site, needed, NOBODY, name="pg-1")
    assert copy == shared / "pg-1"
    assert (copy / "pg" / "bin" / "postgres").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in copy.iterdir()] == ["pg"]
    assert reachable_copy(site, needed, NOBODY, name="pg-1") == copy
    assert reachable_copy(site, needed, NOBODY, name="pg-2") != copy
    assert reachable_copy(site, needed, None, name="pg-1") == site
    assert sorted(path.name for path in shared.iterdir()) == ["pg-1", "pg-2"]


def test_programs_that_all_can_read_are_used_where_they_are(
    open_folder: Path, shared: Path
) -> None:
    (open_folder / "pg").mkdir()
    (open_folder / "pg" / "postgres").write_text("")
    assert reachable_copy(open_folder, ["pg"], NOBODY, name="pg-1") == open_folder
    (open_folder / "pg" / "postgres").chmod(0o600)
    assert reachable_copy(open_folder, ["pg"], NOBODY, name="pg-1") == shared / "pg-1"
