"""Cuts long texts into passages that a model reads whole. Pure."""

from collections.abc import Iterator
from typing import Final

from model_svc.text.sentences import split_sentences

# Of running text, a token has 4 to 5 characters: a passage seldom has more tokens than its
# limit, and if so, its last words are not read.
_CHARACTERS_PER_TOKEN: Final = 4


def passages_of(text: str, max_tokens: int) -> list[str]:
    """Returns the passages of a text, in order; itself if it is short.

    A passage is as many sentences as fit; a sentence that does not fit is cut between
    words, or where it must be.
    """
    limit = max_tokens * _CHARACTERS_PER_TOKEN
    if len(text) <= limit:
        return [text]
    passages: list[str] = []
    for piece in _pieces(" ".join(text.split()), limit):
        if passages and len(passages[-1]) + 1 + len(piece) <= limit:
            passages[-1] += " " + piece
        else:
            passages.append(piece)
    return passages or [""]


def _pieces(text: str, limit: int) -> Iterator[str]:
    for sentence in split_sentences(text):
        left = sentence.strip()
        while len(left) > limit:
            cut = left.rfind(" ", 1, limit + 1)
            cut = cut if cut > 0 else limit
            yield left[:cut]
            left = left[cut:].strip()
        if left:
            yield left
