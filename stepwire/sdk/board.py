"""What a run tells while it goes on."""

from typing import Protocol

from stepwire.sdk.tally import Tally


class Board(Protocol):
    """Shows how a run fares; the command line draws it, tests collect it."""

    def begin(self, phase: str, tally: Tally) -> None:
        """Starts a phase, e.g. "documents"; `tally` is counted on while it lasts."""

    def update(self) -> None:
        """Says that the tally of the current phase has changed."""

    def end(self) -> None:
        """Ends the current phase."""

    def say(self, text: str) -> None:
        """Tells something that happened."""
