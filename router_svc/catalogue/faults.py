"""What is wrong with a catalogue, in lines that name entry, field and line of the file."""

from collections.abc import Sequence


class CatalogueError(Exception):
    """A catalogue that cannot be used.

    Attributes:
        source: The file, as the operator knows it.
        problems: One line for each fault, naming entry and field, and the line of the
            file where there is one.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super().__init__(source, tuple(problems))
        self.source = source
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n  ".join([f"catalogue {self.source}:", *self.problems])
