"""Cuts text into passages along paragraphs, sentences and words. Pure."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_PARAGRAPH_END = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE_END = re.compile(r"(?<!\d)[.!?][\"')\]*`”’]*\s+(?=[\"'(\[*`“‘]*[A-Z0-9])")  # noqa: RUF001
_SPACE = re.compile(r"\s+")
_HEADING = re.compile(r"#{1,6} [^\n]+|[^\n]+\n[*=~^\"#+-]{3,}", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a text.

    Attributes:
        position: Its place among the passages of the text, from 0.
        start: Index of its first character in the text.
        text: What it says, without space around it.
    """

    position: int
    start: int
    text: str


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int

    def of(self, text: str) -> str:
        return text[self.start : self.end].strip()


def split_text(text: str, *, max_characters: int, overlap_characters: int = 0) -> list[Passage]:
    """Cuts a text into passages of at most `max_characters`.

    Paragraphs are kept whole and put together as long as they fit; one that is too long is
    cut between sentences, and a sentence that is too long between words (a word that is
    too long, anywhere). A heading stays with what follows it.

    Args:
        text: The text, in which blank lines part paragraphs.
        max_characters: Longest passage, at least 1.
        overlap_characters: How much of the end of a passage may be repeated at the beginning
            of the next, in whole words; less than `max_characters`, and counted in it.

    Returns:
        The passages in order; none for a text without a visible character.
    """
    spans = _pack(text, max_characters - overlap_characters)
    starts = [_reach_back(text, span.start, overlap_characters) for span in spans]
    pieces = (_Span(start, span.end).of(text) for start, span in zip(starts, spans, strict=True))
    return [
        Passage(position=position, start=start, text=piece)
        for position, (start, piece) in enumerate(zip(starts, pieces, strict=True))
    ]


def _pack(text: str, limit: int) -> list[_Span]:
    """Puts neighbouring pieces together as long as they fit."""
    packed: list[list[_Span]] = []
    for piece in _pieces(text, limit):
        if packed and piece.end - packed[-1][0].start <= limit:
            packed[-1].append(piece)
            continue
        carried = []
        if packed and len(packed[-1]) > 1 and _is_heading(packed[-1][-1].of(text)):
            heading = packed[-1][-1]
            if piece.end - heading.start <= limit:
                carried = [packed[-1].pop()]
        packed.append([*carried, piece])
    return [_Span(pieces[0].start, pieces[-1].end) for pieces in packed]


def _pieces(text: str, limit: int) -> Iterator[_Span]:
    """Yields the largest units that fit: paragraphs, else sentences, else words."""
    for paragraph in _cut(text, _Span(0, len(text)), _PARAGRAPH_END):
        if paragraph.end - paragraph.start <= limit:
            yield paragraph
            continue
        for sentence in _cut(text, paragraph, _SENTENCE_END):
            if sentence.end - sentence.start <= limit:
                yield sentence
                continue
            yield from _chop(text, sentence, limit)


def _cut(text: str, span: _Span, boundary: re.Pattern[str]) -> Iterator[_Span]:
    """Cuts a span behind each match of a boundary; pieces without visible text are left out."""
    start = span.start
    for match in boundary.finditer(text, span.start, span.end):
        yield from _trimmed(text, start, match.end())
        start = match.end()
    yield from _trimmed(text, start, span.end)


def _chop(text: str, span: _Span, limit: int) -> Iterator[_Span]:
    """Cuts a span at spaces into pieces of like length, or at the limit where none is near."""
    start = span.start
    while (left := span.end - start) > limit:
        fair = start + math.ceil(left / math.ceil(left / limit))
        spaces = [match.start() for match in _SPACE.finditer(text, start + 1, start + limit + 1)]
        end = min(spaces, key=lambda space: abs(space - fair), default=start + limit)
        yield from _trimmed(text, start, end)
        start = end
    yield from _trimmed(text, start, span.end)


def _trimmed(text: str, start: int, end: int) -> Iterator[_Span]:
    """Yields a span without the space around it, or nothing if it is all space."""
    piece = text[start:end]
    if visible := piece.strip():
        offset = start + len(piece) - len(piece.lstrip())
        yield _Span(offset, offset + len(visible))


def _reach_back(text: str, start: int, characters: int) -> int:
    """Returns where a passage starts that repeats whole words from before `start`."""
    earliest = max(0, start - characters)
    if earliest == start:
        return start
    if earliest == 0:
        return 0
    space = _SPACE.search(text, earliest - 1, start)
    return space.end() if space else start


def _is_heading(piece: str) -> bool:
    return _HEADING.fullmatch(piece) is not None
