"""Finds what a model that only quotes can quote from, and what it looks for."""

import re
from dataclasses import dataclass
from itertools import islice

from router_svc.requests.records import Document, Request

# Below this a text is its own summary.
MIN_SENTENCES = 3
MIN_CHARACTERS = 200
# "Summarise this text" has no topic of its own; "summarise what the report says about
# frost" has one.
_SUMMARY_WORDS = 6

_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]|\n\s*\n")  # noqa: RUF001  (the signs are meant)
_SUMMARY = re.compile(r"^\W*(please\s+)?(summari[sz]e|summary|sum\s+up|tl;?dr)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Passage:
    """A task for a model that quotes.

    Attributes:
        question: What the quotes should answer; empty asks for a summary.
        documents: What to quote from; at least one.
        citable: Whether they are the caller's documents, which an answer can cite.
    """

    question: str
    documents: tuple[Document, ...]
    citable: bool


def find_passage(request: Request) -> Passage | None:
    """Returns what to quote from: the documents, else the last message if it is long.

    None when there is neither.
    """
    if request.documents:
        question = "" if asks_for_summary(request.question) else request.question
        return Passage(question, request.documents, citable=True)
    if is_quotable(request.question):
        own_text = Document(id="message", title="", text=request.question)
        return Passage("", (own_text,), citable=False)
    return None


def asks_for_summary(question: str) -> bool:
    """Returns whether `question` asks for a summary of no topic in particular."""
    return bool(_SUMMARY.match(question)) and len(question.split()) <= _SUMMARY_WORDS


def is_quotable(text: str) -> bool:
    """Returns whether `text` is long enough to be shortened to some of its sentences."""
    if len(text) < MIN_CHARACTERS:
        return False
    ends = islice(_SENTENCE_END.finditer(text), MIN_SENTENCES)
    return len(list(ends)) == MIN_SENTENCES
