"""What is shown of a file on its way: a bar on a terminal, lines elsewhere."""

import io
import re

import pytest
from rich.console import Console

from stepwire.cli import transfer
from stepwire.cli.transfer import moving


def test_lines_tell_what_has_moved_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transfer, "_LINE_EVERY_SECONDS", 0)
    for verb, total in (("save", None), ("restore", 4_000_000)):
        with moving(verb, total=total) as moved:
            moved(1_500_000)
            moved(500_000)
    said = capsys.readouterr()
    assert said.out == ""
    lines = [re.sub(r"\d+ s$", "N s", line) for line in said.err.splitlines()]
    assert lines == [
        "save: 1.5 MB after N s",
        "save: 2.0 MB after N s",
        "restore: 1.5 MB of 4.0 MB after N s",
        "restore: 2.0 MB of 4.0 MB after N s",
    ]


def test_a_terminal_has_a_bar_that_goes_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(transfer, "console", lambda *, stderr: screen)
    with moving("restore", total=4_000_000) as moved:
        moved(4_000_000)
    drawn = screen.file.getvalue()
    assert "restore" in drawn
    assert "4.0/4.0 MB" in drawn
    assert drawn.endswith("\x1b[2K")
