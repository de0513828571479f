"""Says whether two questions differ in what an answer depends on, however near they are. Pure.

Vectors tell what a question is about; that one says `not`, 25 for 15, or Austria for Australia
hardly moves them. What is compared here is what can be read off the words. It refuses too
much rather than too little: an answer that is made anew costs less than a wrong one.
"""

from collections.abc import Callable, Sequence
from typing import Final

from router_svc.cache.reading import Reading
from router_svc.cache.vocabulary import PREFIXES

_SWAPPED: Final = 2

Check = Callable[[Reading, Reading], bool]


def difference(asked: str, kept: str) -> str:
    """Returns in what two questions differ: one of `CHECKS`; empty when in nothing that counts."""
    if asked == kept:
        return ""
    one, other = Reading(asked), Reading(kept)
    return next((name for name, differ in CHECKS.items() if differ(one, other)), "")


def _numbers(one: Reading, other: Reading) -> bool:
    return one.numbers != other.numbers


def _units(one: Reading, other: Reading) -> bool:
    return one.units != other.units


def _dates(one: Reading, other: Reading) -> bool:
    return one.dates != other.dates


def _negations(one: Reading, other: Reading) -> bool:
    if one.negations != other.negations:
        return True
    mine, theirs = one.plain - other.plain, other.plain - one.plain
    if _turned(mine, theirs) or _turned(theirs, mine):
        return True
    shared = one.sides.keys() & other.sides.keys()
    return any(one.sides[group] != other.sides[group] for group in shared)


def _turned(words: frozenset[str], others: frozenset[str]) -> bool:
    return any(prefix + word in others for word in words for prefix in PREFIXES)


def _names(one: Reading, other: Reading) -> bool:
    # A name that only one of them writes with a capital is the same name.
    names = one.names | other.names
    return _in_order(one.words, names) != _in_order(other.words, names)


def _in_order(words: Sequence[str], names: frozenset[str]) -> list[str]:
    return [word for word in words if word in names]


def _words(one: Reading, other: Reading) -> bool:
    """Returns whether a word stands for another, or two have changed places."""
    mine, theirs = set(one.matter), set(other.matter)
    if mine - theirs and theirs - mine:
        return True
    if len(one.matter) != len(other.matter):
        return False
    pairs = list(zip(one.matter, other.matter, strict=True))
    moved = [place for place, (here, there) in enumerate(pairs) if here != there]
    if len(moved) != _SWAPPED:
        return False
    first, second = moved
    # Not neighbours: "a list in Python" is "a Python list".
    return second > first + 1 and pairs[first] == pairs[second][::-1]


CHECKS: Final[dict[str, Check]] = {
    "numbers": _numbers,
    "units": _units,
    "dates": _dates,
    "negations": _negations,
    "names": _names,
    "words": _words,
}
"""What is compared, in this order."""
