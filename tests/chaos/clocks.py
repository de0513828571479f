"""Clocks that jump: a small library that is preloaded into processes, built with `cc`."""

import dataclasses
import mmap
import shutil
import struct
import subprocess
from pathlib import Path

from stepwire.stack.process import Command

SOURCE = Path(__file__).with_name("clock_shift.c")


class Clocks:
    """The clocks of processes, by a name for each.

    Without a C compiler there is no way to move them, and `movable` is False.
    """

    def __init__(self, folder: Path) -> None:
        """Build the library in `folder`, which all processes must be able to read."""
        self._folder = folder
        self._library = folder / "clock_shift.so"
        compiler = shutil.which("cc")
        self.movable = compiler is not None
        if compiler is not None:
            subprocess.run(
                [compiler, "-shared", "-fPIC", "-O2", "-o", self._library, SOURCE], check=True
            )
            self._library.chmod(0o755)

    def under(self, name: str, command: Command) -> Command:
        """Return `command` run under the clock of this name."""
        if not self.movable:
            return command
        path = self._folder / f"{name}.clock"
        if not path.exists():
            path.write_bytes(struct.pack("=q", 0))
            path.chmod(0o644)
        environment = {
            **command.environment,
            "LD_PRELOAD": str(self._library),
            "STEPWIRE_CHAOS_CLOCK": str(path),
        }
        return dataclasses.replace(command, environment=environment)

    def reset(self) -> None:
        """Set all clocks right."""
        for path in self._folder.glob("*.clock"):
            self.set(path.stem, 0)

    def set(self, name: str, seconds: int) -> None:
        """Move a clock to so many seconds from the true time, at once."""
        path = self._folder / f"{name}.clock"
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as there:
            there[:] = struct.pack("=q", seconds)
