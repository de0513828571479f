"""Reads off a question what an answer depends on: numbers, units, dates, negations, names. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from router_svc.cache.vocabulary import (
    AMBIGUOUS_UNITS,
    DATES,
    FUNCTION_WORDS,
    NEGATORS,
    NUMBERS,
    SIDES,
    SYNONYMS,
    UNITS,
    stem,
)

_TOKEN: Final = re.compile(
    r"""
      [$€£¥%] | °[CFcf]\b                       # signs of units
    | [-+*/^=<>\u00d7\u00f7](?=\s*[\d(])                  # what is done with numbers
    | \d+(?:[.,]\d+)*                           # numbers
    | [^\W\d_](?:[\w'\u2019./@#+-]*[\w+#])?          # words, and names of files and of code
    """,
    re.VERBOSE,
)
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_QUOTED: Final = re.compile(
    r"""["“”«»`]([^"“”«»`]+)["“”«»`] | (?<!\w)['\u2018]([^'\u2019]+)['\u2019](?!\w)""", re.VERBOSE
)
# Capitals within a word or nothing but capitals, digits and signs: names of some kind.
_CODE: Final = re.compile(r"\w[\d_./@#+-]|[a-z][A-Z]|^[A-Z]{2,}")
_SENTENCE_END: Final = re.compile(r"[.!?:;\n]")
_BEFORE_A_UNIT: Final = frozenset({"per", "each", "every", "a"})
# Where so many words, and all that tell something, begin with a capital it is a heading, and
# capitals name nothing.
_HEADING_WORDS: Final = 3


@dataclass(frozen=True, slots=True)
class _Token:
    """A word, number or sign.

    Attributes:
        said: As it is written.
        plain: In small letters, without the ending of a genitive.
        opens: Whether a sentence begins with it.
        before: The plain one before it; empty for the first.
        after_number: Whether it stands right behind a number.
    """

    said: str
    plain: str
    opens: bool
    before: str
    after_number: bool


class Reading:
    """What a question says, in what counts. All of it is found when it is first asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Its words in small letters, in order."""
        return tuple(each.plain for each in self._tokens)

    @cached_property
    def plain(self) -> frozenset[str]:
        """Its words in small letters."""
        return frozenset(self.words)

    @cached_property
    def sides(self) -> Mapping[int, frozenset[int]]:
        """On which sides it stands, by the group of opposites."""
        found: dict[int, set[int]] = {}
        for word in self.words:
            for group, side in SIDES.get(stem(word), ()):
                found.setdefault(group, set()).add(side)
        return {group: frozenset(sides) for group, sides in found.items()}

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """Its numbers, and what is done with them, in order."""
        return tuple(found for each in self._tokens if (found := _number(each)))

    @cached_property
    def units(self) -> tuple[str, ...]:
        """Its units, in order."""
        return tuple(found for each in self._tokens if (found := _unit(each)))

    @cached_property
    def dates(self) -> tuple[str, ...]:
        """Its words for times, in order."""
        return tuple(found for each in self._tokens if (found := _date(each)))

    @cached_property
    def negations(self) -> int:
        """How often it turns a meaning round."""
        return sum(map(_is_negator, self._tokens))

    @cached_property
    def names(self) -> frozenset[str]:
        """What seems to name something, in small letters."""
        words = [each for each in self._tokens if each.said[0].isalpha()]
        # A letter by itself is a name in any case.
        telling = [
            each for each in words if each.plain not in FUNCTION_WORDS and len(each.plain) > 1
        ]
        is_heading = len(telling) >= _HEADING_WORDS and all(
            each.said[0].isupper() for each in telling
        )
        found = {
            each.plain
            for each in words
            if _CODE.search(each.said)
            or not each.plain.isascii()
            or (each.said[0].isupper() and not each.opens and not is_heading)
        }
        for quoted in _QUOTED.findall(self._text):
            found.update(each.plain for each in _tokens(" ".join(quoted)))
        return frozenset(found) - FUNCTION_WORDS

    @cached_property
    def matter(self) -> tuple[str, ...]:
        """What it is about: all words that are not mere grammar, by their stems, in order."""
        return tuple(
            SYNONYMS.get(stem(each.plain), stem(each.plain))
            for each in self._tokens
            if each.plain not in FUNCTION_WORDS
            and not (_is_negator(each) or _number(each) or _unit(each) or _date(each))
        )


def _tokens(text: str) -> Iterator[_Token]:
    before, end, was_number = "", 0, False
    for found in _TOKEN.finditer(text):
        said = found.group()
        plain = said.lower().replace("\u2019", "'").removesuffix("'s")
        opens = not before or bool(_SENTENCE_END.search(text, end, found.start()))
        yield _Token(said, plain, opens, before, was_number)
        before, end, was_number = plain, found.end(), said[0].isdigit()


def _is_negator(token: _Token) -> bool:
    return token.plain in NEGATORS or token.plain.endswith("n't")


def _number(token: _Token) -> str:
    said = token.plain
    if not said[0].isalpha():
        if _THOUSANDS.fullmatch(said):
            said = said.replace(",", "")
        return "" if said in UNITS else said.lstrip("0") or "0"
    if said == "one" or (said == "second" and _is_unit_of_time(token)):
        return ""
    return NUMBERS.get(said, "")


def _is_unit_of_time(token: _Token) -> bool:
    return token.after_number or token.before in _BEFORE_A_UNIT


def _unit(token: _Token) -> str:
    if token.plain in AMBIGUOUS_UNITS and not _is_unit_of_time(token):
        return ""
    return UNITS.get(token.plain, "")


def _date(token: _Token) -> str:
    if token.plain == "may":
        named = token.said == "May" and not token.opens
        return "may" if named or token.after_number or token.before == "in" else ""
    return DATES.get(token.plain, "")
