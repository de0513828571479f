"""The demo's documents: the Python language reference that every CPython carries."""

from dataclasses import dataclass
from pydoc_data.topics import topics


@dataclass(frozen=True, slots=True)
class Topic:
    """A chapter of the reference.

    Attributes:
        name: What `help("…")` calls it.
        title: Its first line.
        text: All of it, with the title.
    """

    name: str
    title: str
    text: str


def read_topics() -> list[Topic]:
    """Returns the topics by name."""
    return [
        Topic(name=name, title=text.strip().partition("\n")[0], text=text)
        for name, text in sorted(topics.items())
    ]
