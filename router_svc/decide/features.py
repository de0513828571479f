"""What a request looks like, in numbers: what predictors see beside its meaning.

Change the list and raise VERSION: what was remembered under another version is not
learnt from.
"""

import re
from collections.abc import Sequence
from math import log1p
from typing import Final

import numpy as np

from router_svc.decide.complexity import CODE, MATHS, READ_CHARACTERS, REASONING, WRITING
from router_svc.decide.ports import Vector
from router_svc.requests.records import Request

VERSION: Final = 1

_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SENTENCE_END = re.compile(r"[.?!](?=\s|$)")
_OPTION = re.compile(r"^[^\S\n]*[A-Ea-e][.)]\s", re.MULTILINE)
_CONDITION = re.compile(
    r"\b(if|then|unless|suppose|assum\w*|each|every|must|cannot|because|therefore)\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(not|no|never|none|neither|nor|without|except|least|false|incorrect)\b", re.IGNORECASE
)
_RELATION = re.compile(
    r"\b(twice|thrice|half|third|quarter|times|more|less|fewer|than|percent|per|double|triple|"
    r"ratio|fraction|average|rate|another|remaining|rest|total|altogether)\b",
    re.IGNORECASE,
)
_LONG_WORD: Final = 9


def features_of(request: Request) -> Vector:
    """Returns the features of `request`, as float32 values of moderate size."""
    text = request.question[:READ_CHARACTERS]
    return np.array([*_form(text), *_words(text), *_around(request)], dtype=np.float32)


def _form(text: str) -> Sequence[float]:
    words = _WORD.findall(text)
    lengths = [len(word) for word in words] or [0]
    count = len(lengths)
    numbers = _NUMBER.findall(text)
    sentences = len(_SENTENCE_END.findall(text)) or 1
    options = len(_OPTION.findall(text))
    return (
        log1p(len(text)),
        log1p(count),
        sum(lengths) / count,
        log1p(max(lengths)),
        sum(length >= _LONG_WORD for length in lengths) / count,
        len({word.lower() for word in words}) / count,
        sum(word[0].isupper() for word in words) / count,
        log1p(sentences),
        count / sentences / 10,
        log1p(len(numbers)),
        len(numbers) / count,
        log1p(sum(len(number) for number in numbers)),
        log1p(text.count(",")),
        log1p(text.count("\n")),
        log1p(sum(map(text.count, "%$€£"))),
        log1p(sum(map(text.count, "+-*/=^<>()"))),
        log1p(options),
        len(text) / (1 + options) / 500,
    )


def _words(text: str) -> Sequence[float]:
    return (
        log1p(len(_CONDITION.findall(text))),
        log1p(len(_NEGATION.findall(text))),
        log1p(len(_RELATION.findall(text))),
        *(float(bool(sign.search(text))) for sign in (REASONING, CODE, MATHS, WRITING)),
    )


def _around(request: Request) -> Sequence[float]:
    documents = sum(len(document.text) for document in request.documents)
    return (
        log1p(len(request.messages)),
        log1p(len(request.documents)),
        log1p(documents) / 10,
        log1p(len(request.tools)),
        float(request.json_schema is not None),
    )
