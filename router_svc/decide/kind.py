"""What kind of work a request is: by its words, else by the nearest examples."""

import re
from collections.abc import Mapping

from router_svc.catalogue.kinds import Kind
from router_svc.decide.complexity import CODE, MATHS, READ_CHARACTERS, REASONING, WRITING
from router_svc.decide.passage import asks_for_summary
from router_svc.requests.records import Request

# Below this cosine nothing is near; and the nearest must lead the second by the margin.
NEAR = 0.3
MARGIN = 0.03

_TRANSLATION = re.compile(
    r"\b(translate|translation|in(to)? (english|german|french|spanish|"
    r"italian|portuguese|polish|russian|chinese|japanese|arabic)\b)",
    re.IGNORECASE,
)
_SUMMARY = re.compile(r"\b(summari[sz]e|summary|tl;?dr|key points|main ideas)\b", re.IGNORECASE)
_EXTRACTION = re.compile(
    r"\b(extract|(list|find) (all|every|each)|which (names|dates|amounts)|pull out)\b",
    re.IGNORECASE,
)
_DATA = re.compile(
    r"\b(csv|spreadsheet|data ?frame|data ?set|pivot|table of|rows and columns|time series)\b",
    re.IGNORECASE,
)
_CHAT = re.compile(
    r"^\W*(hi|hello|hey|thanks|thank you|good (morning|evening)|bye)\b", re.IGNORECASE
)

# The first that is seen decides: what is to be done goes before what it is about.
_RULES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (Kind.TRANSLATION, _TRANSLATION),
    (Kind.SUMMARY, _SUMMARY),
    (Kind.EXTRACTION, _EXTRACTION),
    (Kind.CODE, CODE),
    (Kind.DATA, _DATA),
    (Kind.MATHS, MATHS),
    (Kind.WRITING, WRITING),
    (Kind.REASONING, REASONING),
    (Kind.CHAT, _CHAT),
)


def kind_of(request: Request, nearness: Mapping[Kind, float] | None = None) -> Kind | None:
    """Returns the kind of work that `request` is; None when no kind stands out.

    Args:
        request: The request; its last message is read.
        nearness: Cosine of its meaning to the examples of each kind; None when it is
            not known.
    """
    text = request.question[:READ_CHARACTERS]
    if asks_for_summary(text):
        return Kind.SUMMARY
    for kind, pattern in _RULES:
        if pattern.search(text):
            return kind
    return _nearest(nearness) if nearness else None


def _nearest(nearness: Mapping[Kind, float]) -> Kind | None:
    first, second = sorted(nearness, key=lambda kind: -nearness[kind])[:2]
    is_clear = nearness[first] >= NEAR and nearness[first] - nearness[second] >= MARGIN
    return first if is_clear else None
