"""Estimates the quality that a request needs, from what can be seen in its text.

A starting point and a list of signs, each adding a fixed amount when it is seen. No
model is called and nothing is learnt: whoever reads the explanation can check it.
Only the conversation's last message is read; documents count by being there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from router_svc.requests.records import Request

# Answering from a text at hand is easier than from what a model remembers.
BASE_WITH_TEXT = 0.3
BASE_WITHOUT_TEXT = 0.5
HIGHEST = 0.9
# Only so much of a message is searched for signs, so that a decision's time does not
# grow with a long one; its length is a sign of its own.
READ_CHARACTERS = 8_000
LONG_TOKENS = 250
VERY_LONG_TOKENS = 1_000
LONG_CONVERSATION = 6
SEVERAL = 2

_REASONING = re.compile(
    r"\b(why|explain|compare|contrast|analy[sz]e|evaluate|assess|prove|derive|reason|argue|"
    r"justify|trade-?offs?|pros and cons|implications?|step[- ]by[- ]step|infer)\b",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"```|\b(source code|functions?|script|regex|sql|python|javascript|typescript|java|rust|"
    r"golang|bash|stack ?trace|traceback|compiler?|debug|refactor|unit tests?)\b|\bc\+\+",
    re.IGNORECASE,
)
_MATHS = re.compile(
    r"\b(calculate|compute|solve|equation|integral|derivative|probability|percent(age)?|theorem)\b"
    r"|\d\s*[-+*/^=×÷]\s*\d|\bhow (many|much)\b.*\d",  # noqa: RUF001  (the signs are meant)
    re.IGNORECASE | re.DOTALL,
)
# As a command: "the plan" and "the draft" are things that a document may speak of.
_WRITING = re.compile(
    r"(?:^|[.!?:;\n]|\b(?:please|you|to|and|then))\s*"
    r"(write|draft|compose|rewrite|translate|rephrase|design|plan|outline|brainstorm|create|"
    r"generate)\b",
    re.IGNORECASE,
)
_STEP = re.compile(r"^\s*(\d+[.)]|[-*•])\s+\S", re.MULTILINE)
_SEQUENCE = re.compile(r"\b(first|then|next|after that|finally|afterwards)\b", re.IGNORECASE)
_QUESTION_MARK = re.compile(r"[?？]")  # noqa: RUF001  (the sign is meant)


@dataclass(frozen=True, slots=True)
class Need:
    """The quality that a request needs.

    Attributes:
        quality: From 0 to 1, on the catalogue's scale.
        reason: How it came about, for people.
        required: Whether the caller stated it; an estimate may be missed, when no
            model reaches it.
    """

    quality: float
    reason: str
    required: bool


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the signs look at."""

    text: str
    tokens: int
    messages: int


@dataclass(frozen=True, slots=True)
class _Sign:
    name: str
    weight: float
    is_seen: Callable[[_Seen], bool]


def _several_parts(seen: _Seen) -> bool:
    return any(
        len(pattern.findall(seen.text)) >= SEVERAL for pattern in (_STEP, _SEQUENCE, _QUESTION_MARK)
    )


SIGNS: tuple[_Sign, ...] = (
    _Sign("asks for reasoning", 0.2, lambda seen: bool(_REASONING.search(seen.text))),
    _Sign("is about code", 0.2, lambda seen: bool(_CODE.search(seen.text))),
    _Sign("asks for mathematics", 0.2, lambda seen: bool(_MATHS.search(seen.text))),
    _Sign("asks for new text", 0.2, lambda seen: bool(_WRITING.search(seen.text))),
    _Sign("has several parts", 0.1, _several_parts),
    _Sign("is long", 0.1, lambda seen: seen.tokens >= LONG_TOKENS),
    _Sign("is very long", 0.1, lambda seen: seen.tokens >= VERY_LONG_TOKENS),
    _Sign("is late in a conversation", 0.1, lambda seen: seen.messages >= LONG_CONVERSATION),
)


def need_of(request: Request, *, has_text: bool, question_tokens: int) -> Need:
    """Returns the quality that `request` needs.

    Args:
        request: The request; a `min_quality` above 0 is taken as the need.
        has_text: Whether there is a text to answer from.
        question_tokens: Tokens of the last message.
    """
    if request.min_quality > 0:
        return Need(request.min_quality, "asked for by min_quality", required=True)
    base = BASE_WITH_TEXT if has_text else BASE_WITHOUT_TEXT
    parts = [f"{base:.1f} for a question {'with' if has_text else 'without'} a text to answer from"]
    seen = _Seen(request.question[:READ_CHARACTERS], question_tokens, len(request.messages))
    quality = base
    for sign in SIGNS:
        if sign.is_seen(seen):
            quality += sign.weight
            parts.append(f"{sign.weight:.1f} because it {sign.name}")
    # Rounded, since 0.3 + 0.1 is not 0.4 in binary.
    return Need(min(round(quality, 3), HIGHEST), "estimated: " + " + ".join(parts), required=False)
