"""Finds the running text in a document: paragraphs without headings, code and tables.

Reads Markdown, reStructuredText and plain text alike. Pure.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Final

_FENCE: Final = re.compile(r"\s*(```|~~~)")
_RULE: Final = re.compile(r"\s*([=\-~^\"'`#*+.:_])\1{2,}\s*")
_MARKDOWN_HEADING: Final = re.compile(r"\s{0,3}#{1,6}\s")
_NOT_PROSE: Final = re.compile(
    r"\s*(\||\+[-=+]{2,}|={2,}\s+=[=\s]*$)"  # a table
    r"|\s*\.\.(\s|$)"  # a directive
    r"|\s*:[\w-]+( \w+)*:(\s|$)"  # a field
)
_TAG: Final = re.compile(r"\s*(<[^>]*>\s*)+")
_MARKER: Final = re.compile(r"\s*(?:(?:[-*+•>]|\(?(?:\d{1,3}|[A-Za-z])[.)])\s+)+")
_CODE: Final = re.compile(
    r"\s*(>>>|\.\.\.\s|\$\s|#!|//|/\*|@\w)"
    r"|\s*((async )?def|class|func|function|fn)\s+\w+\s*[(:{]"
    r"|\s*(try|else|finally|except( \w+)*):\s*$"
    r"|\s*(import [\w.]+|from \S+ import .*)\s*$"
    r"|\s*((const|let|var|set|export)\s+)?[\w.\[\]\"']+\s*([-+*/|&:]|::)?=\s"
    r"|.*([{}\\]|=>|->|[(=].*;)\s*$"
)
_SENTENCE_END: Final = (".", "!", "?", ":", "。", "！", "？")  # noqa: RUF001
_PROSE_END: Final = (*_SENTENCE_END, ")", '"', "”", "’", "'")  # noqa: RUF001
_HEADING_WORDS: Final = 8
_CODE_CHARACTERS: Final = 400  # longest line that is looked at: `_CODE` is quadratic


def paragraphs(document: str) -> Iterator[str]:
    """Yields the paragraphs and list items of a document, in order.

    The lines of one are joined by a space, and white space is folded: each is a part of
    the document word for word, once the document's white space is folded too. Headings,
    rules, tables, code, directives and tags are left out.
    """
    before = ""
    for block in _blocks(_without_markup(list(_without_fences(document.splitlines())))):
        if not _is_code(block, before):
            for item in _items(block):
                folded = " ".join(item.split())
                if not _is_lone_heading(folded, block):
                    yield folded
        before = block[-1].rstrip()


# What is left out below leaves an empty line in its place, since what was before and after
# it does not belong together.


def _without_fences(lines: Iterable[str]) -> Iterator[str]:
    fence = ""
    for line in lines:
        mark = _FENCE.match(line)
        if mark is not None and fence in {"", mark[1]}:
            fence = "" if fence else mark[1]
            yield ""
        else:
            yield "" if fence else line


def _without_markup(lines: Sequence[str]) -> Iterator[str]:
    for line, following in zip_longest(lines, lines[1:], fillvalue=""):
        is_heading = _RULE.fullmatch(following) or _MARKDOWN_HEADING.match(line)
        is_markup = _RULE.fullmatch(line) or _TAG.fullmatch(line) or _NOT_PROSE.match(line)
        yield "" if is_heading or is_markup else line


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _is_code(lines: Sequence[str], before: str) -> bool:
    matches = sum(1 for line in lines if len(line) <= _CODE_CHARACTERS and _CODE.match(line))
    if matches * 2 >= len(lines):
        return True
    indented = all(line[:1].isspace() for line in lines)
    return indented and before.endswith(":") and not lines[-1].rstrip().endswith(_SENTENCE_END)


def _items(lines: Sequence[str]) -> Iterator[str]:
    item: list[str] = []
    for line in lines:
        marker = _MARKER.match(line)
        if marker is not None:
            if item:
                yield " ".join(item)
            item = []
        item.append(line[marker.end() :] if marker else line)
    if item:
        yield " ".join(item)


def _is_lone_heading(text: str, block: Sequence[str]) -> bool:
    return (
        len(block) == 1
        and _MARKER.match(block[0]) is None
        and not text.endswith(_PROSE_END)
        and len(text.split()) < _HEADING_WORDS
    )
