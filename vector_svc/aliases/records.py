"""Second names, and what is to become of them. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AliasChange:
    """What an alias is to name from now on; "" for nothing."""

    alias: str
    collection: str


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name of a collection."""

    name: str
    collection: str
