"""Splits documents into sentences that are worth quoting. Pure."""

import re
from collections.abc import Iterator
from typing import Final

from model_svc.text.blocks import paragraphs

_MAX_CHARACTERS: Final = 1_000
_MIN_LETTERS: Final = 12
_MIN_WORDS: Final = 3
_MIN_PROSE_SHARE: Final = 0.75

_CLOSING: Final = r"[\"')\]*_`”’»]*"  # noqa: RUF001
_OPENING: Final = r"[\"'(\[*_`“‘«<]*"  # noqa: RUF001
# Linear in the text: a run of stops is tried from its beginning only, and as a whole.
_BOUNDARY: Final = re.compile(
    rf"(?<![.!?…])[.!?…]++{_CLOSING}+ (?={_OPENING}[^\W_a-z])|[。！？]++ ?"  # noqa: RUF001
)
_WORD_BEFORE: Final = re.compile(r"[\w.&]+$")
_ABBREVIATION_CHARACTERS: Final = 10  # more than the longest has
_ABBREVIATION: Final = re.compile(
    r"a\.m|al|approx|art|ca|cf|ch|chap|co|corp|dept|dr|e\.g|eds?|eg|eqs?|esp|est|et|etc|figs?|gen"
    r"|hon|i\.e|ie|inc|jr|ltd|max|min|mrs?|ms|mt|nos?|op|p\.m|pp|prof|refs?|resp|rev|sect?|sr|st"
    r"|tab|u\.k|u\.s|viz|vols?|vs",
    re.IGNORECASE,
)
_WITHOUT_SPACES: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")


def sentences_of(document: str) -> list[str]:
    """Returns the sentences of a document that are worth quoting, in order.

    Each stands in the document word for word, once white space is folded, and none twice.
    If the document has no such sentence, what words it has are returned in their place,
    so that a short answer like `Paris` can be quoted.
    """
    found = dict.fromkeys(
        sentence
        for paragraph in paragraphs(document)
        for sentence in split_sentences(paragraph)
        if _is_quotable(sentence)
    )
    if found:
        return list(found)
    folded = " ".join(document.split())
    short = (sentence[:_MAX_CHARACTERS] for sentence in split_sentences(folded))
    return list(dict.fromkeys(sentence for sentence in short if _WORD.search(sentence)))


def split_sentences(paragraph: str) -> Iterator[str]:
    """Yields the sentences of a paragraph whose white space is folded; all of it, in order."""
    start = 0
    for boundary in _BOUNDARY.finditer(paragraph):
        before = paragraph[
            max(start, boundary.start() - _ABBREVIATION_CHARACTERS) : boundary.start()
        ]
        if not _is_abbreviation(before, boundary[0]):
            yield paragraph[start : boundary.end()].rstrip()
            start = boundary.end()
    if start < len(paragraph):
        yield paragraph[start:]


def _is_abbreviation(before: str, boundary: str) -> bool:
    """Whether a stop belongs to the word before it; `before` is the end of the sentence."""
    if not boundary.startswith(".") or boundary.startswith(".."):
        return False
    match = _WORD_BEFORE.search(before)
    if match is None:
        return False
    word = match[0]
    initial = len(word) == 1 and word.isalpha() and word.isupper() and word != "I"
    return initial or _ABBREVIATION.fullmatch(word) is not None


def _is_quotable(sentence: str) -> bool:
    if len(sentence) > _MAX_CHARACTERS:
        return False
    letters = sum(1 for character in sentence if character.isalpha())
    spaces = sentence.count(" ")
    if _WITHOUT_SPACES.search(sentence):
        return letters >= _MIN_LETTERS // 2
    prose = (letters + spaces) / len(sentence)
    return (
        letters >= _MIN_LETTERS
        and prose >= _MIN_PROSE_SHARE
        and len(_WORD.findall(sentence)) >= _MIN_WORDS
    )
