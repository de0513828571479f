"""Folders of test servers: gone with who made them, however that ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from stepwire.testing import scratch
from stepwire.testing.scratch import is_in_memory, scratch_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from stepwire.testing import scratch
scratch.MEMORY, scratch.ROOM_BYTES = Path(sys.argv[1]), 0
with scratch.scratch_folder("killed", in_memory=True) as folder:
    (folder / "data").write_text("data")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that passes for memory with room."""
    monkeypatch.setattr(scratch, "MEMORY", tmp_path)
    monkeypatch.setattr(scratch, "ROOM_BYTES", 0)
    return tmp_path


def test_a_folder_is_removed_with_what_is_in_it(memory: Path) -> None:
    with scratch_folder("a", in_memory=True) as folder:
        assert folder.parent == memory
        assert is_in_memory(folder)
        (folder / "data").write_text("data")
    assert list(memory.iterdir()) == []


def test_without_room_or_leave_it_lies_on_disk(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scratch_folder("a", in_memory=False) as folder:
        assert not is_in_memory(folder)
    monkeypatch.setattr(scratch, "ROOM_BYTES", 2**62)
    with scratch_folder("a", in_memory=True) as folder:
        assert not is_in_memory(folder)


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(memory: Path) -> None:
    with scratch_folder("used", in_memory=True) as used:
        subprocess.run([sys.executable, "-c", KILLED, memory], check=False)
        (left,) = set(memory.iterdir()) - {used}
        assert (left / "data").exists()
        with scratch_folder("next", in_memory=True) as following:
            assert set(memory.iterdir()) == {used, following}
