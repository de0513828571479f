"""How hard a request seems, from what can be seen in its text, and from its meaning.

A list of signs, each adding a fixed amount when it is seen: whoever reads the decision
can check it. Only the conversation's last message is read; documents count by being
there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from router_svc.decide.records import Complexity, Signal
from router_svc.requests.records import Request

# Only so much of a message is searched for signs, so that a decision's time does not
# grow with a long one; its length is a sign of its own. Nor may it grow with the square of
# that: no pattern may read on over the places where it can begin, such as ends of lines.
READ_CHARACTERS = 8_000
LONG_TOKENS = 250
VERY_LONG_TOKENS = 1_000
LONG_CONVERSATION = 6
SEVERAL = 2
# What being like the hard examples, rather than the easy ones, adds at most.
MEANING_WEIGHT = 0.2

REASONING = re.compile(
    r"\b(why|explain|compare|contrast|analy[sz]e|evaluate|assess|prove|derive|reason|argue|"
    r"justify|trade-?offs?|pros and cons|implications?|step[- ]by[- ]step|infer)\b",
    re.IGNORECASE,
)
CODE = re.compile(
    r"```|\b(source code|functions?|script|regex|sql|python|javascript|typescript|java|rust|"
    r"golang|bash|stack ?trace|traceback|compiler?|debug|refactor|unit tests?)\b|\bc\+\+",
    re.IGNORECASE,
)
MATHS = re.compile(
    r"\b(calculate|compute|solve|equation|integral|derivative|probability|percent(age)?|theorem)\b"
    r"|\d\s*[-+*/^=×÷]\s*\d"  # noqa: RUF001  (the signs are meant)
    r"|\A(?>.*?\bhow (many|much)\b).*\d",
    re.IGNORECASE | re.DOTALL,
)
# As a command: "the plan" and "the draft" are things that a document may speak of.
WRITING = re.compile(
    r"(?:^|[.!?:;\n]|\b(?:please|you|to|and|then))[^\S\n]*"
    r"(write|draft|compose|rewrite|translate|rephrase|design|plan|outline|brainstorm|create|"
    r"generate)\b",
    re.IGNORECASE,
)
_STEP = re.compile(r"^[^\S\n]*(\d+[.)]|[-*•])\s+\S", re.MULTILINE)
_SEQUENCE = re.compile(r"\b(first|then|next|after that|finally|afterwards)\b", re.IGNORECASE)
_QUESTION_MARK = re.compile(r"[?？]")  # noqa: RUF001  (the sign is meant)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the signs look at."""

    text: str
    tokens: int
    request: Request


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
    _Sign("asks for reasoning", 0.2, lambda seen: bool(REASONING.search(seen.text))),
    _Sign("is about code", 0.2, lambda seen: bool(CODE.search(seen.text))),
    _Sign("asks for mathematics", 0.2, lambda seen: bool(MATHS.search(seen.text))),
    _Sign("asks for new text", 0.2, lambda seen: bool(WRITING.search(seen.text))),
    _Sign("has several parts", 0.1, _several_parts),
    _Sign("is long", 0.1, lambda seen: seen.tokens >= LONG_TOKENS),
    _Sign("is very long", 0.1, lambda seen: seen.tokens >= VERY_LONG_TOKENS),
    _Sign(
        "is late in a conversation",
        0.1,
        lambda seen: len(seen.request.messages) >= LONG_CONVERSATION,
    ),
    _Sign("has tools", 0.1, lambda seen: bool(seen.request.tools)),
    _Sign("has several tools", 0.1, lambda seen: len(seen.request.tools) >= SEVERAL),
)


def complexity_of(
    request: Request, *, question_tokens: int, hardness: float | None = None
) -> Complexity:
    """Returns how hard `request` seems.

    Args:
        request: The request.
        question_tokens: Tokens of the last message.
        hardness: How much its meaning is like that of hard examples rather than of easy
            ones, 0 to 1; None when it is not known.
    """
    seen = _Seen(request.question[:READ_CHARACTERS], question_tokens, request)
    signals = [Signal(sign.name, sign.weight) for sign in SIGNS if sign.is_seen(seen)]
    if hardness is not None and (weight := round(MEANING_WEIGHT * (2 * hardness - 1), 2)) > 0:
        signals.append(Signal("is like hard examples", weight))
    # Rounded, since 0.1 + 0.2 is not 0.3 in binary.
    score = round(sum(signal.weight for signal in signals), 3)
    return Complexity(min(score, 1.0), tuple(signals))
