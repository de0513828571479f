"""Which models read or write texts, and what each is."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_svc.repository.served import ServedModel
from model_svc.repository.shelf import Entry, Shelf
from model_svc.repository.sources import TextUse


@dataclass(frozen=True, slots=True)
class TextModelEntry:
    """A model that reads or writes texts, ready or not.

    Attributes:
        name: Its name.
        is_default: Whether it is meant where no model is named.
        use: What it does with them.
        versions: Its versions, the oldest first.
        served: The version that calls by text use; None if none is ready.
    """

    name: str
    is_default: bool
    use: TextUse
    versions: Sequence[Entry]
    served: ServedModel | None


async def text_models(shelves: Mapping[str, Shelf], *, default: str) -> list[TextModelEntry]:
    """Returns those of some models that read or write texts, by name.

    Args:
        shelves: The models.
        default: Name of the one that is meant where none is named.
    """
    idle = [name for name in shelves if shelves[name].latest is None]
    uses = await asyncio.gather(*(shelves[name].text_use() for name in idle))
    by_files = dict(zip(idle, uses, strict=True))
    found = []
    for name in sorted(shelves):
        shelf = shelves[name]
        served = None if shelf.latest is None else shelf.latest.served
        use = by_files.get(name) if served is None else _use_of(served)
        if use is not None:
            versions = list(shelf.entries())
            found.append(TextModelEntry(name, name == default, use, versions, served))
    return found


def _use_of(served: ServedModel) -> TextUse | None:
    """Returns what a model does with texts; None for nothing."""
    if served.text is not None:
        return TextUse.READS
    return None if served.generator is None else TextUse.WRITES
