"""Reads which metrics and labels an expression of PromQL names.

Not a parser: it knows the words of the language, and where labels stand. What it takes for
a metric is a word that is neither a function, nor an operator, nor the label of a grouping.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<duration>\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)
    |(?P<number>\d+\.?\d*(?:e[+-]?\d+)?)
    |(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
    |(?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){}\[\],@:])""",
    re.VERBOSE,
)
_GROUPINGS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
AGGREGATIONS = {"sum", "max", "min", "avg", "count", "topk", "bottomk", "quantile"}
FUNCTIONS = {
    *("rate", "increase", "irate", "histogram_quantile", "absent", "clamp_min", "clamp_max"),
    *("label_replace", "time", "vector", "changes", "max_over_time", "min_over_time"),
    *("sum_over_time", "avg_over_time", "scalar", "sort_desc", "absent_over_time"),
}
_CLOSES = {")": "(", "}": "{", "]": "["}
# What Grafana puts in place of its own variables, outside of strings.
_GRAFANA = (("$__rate_interval", "5m"), ("$__range", "1h"), ("$__interval", "1m"))


class UnreadableError(Exception):
    """It is no PromQL, or of a kind that is not used here."""


@dataclass(slots=True)
class Named:
    """What an expression names.

    Attributes:
        metrics: Each metric that is selected, with the labels that its selector matches.
        grouped: Labels by which is grouped, joined or taken over.
    """

    metrics: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)


def read(expression: str) -> Named:
    """Return what an expression names.

    Raises:
        UnreadableError: it has a sign, word or bracket that does not belong there.
    """
    for variable, value in _GRAFANA:
        expression = expression.replace(variable, value)
    tokens = list(_tokens(expression))
    _check_brackets(tokens)
    named, place = Named(), 0
    while place < len(tokens):
        kind, text = tokens[place]
        after = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        if kind != "word" or text in _WORDS:
            place += 1
        elif text in _GROUPINGS:
            if after == "(":
                labels, place = _until(tokens, place + 2, ")")
                named.grouped |= {word for kind, word in labels if kind == "word"}
            else:
                place += 1
        elif after == "(" or text in AGGREGATIONS:
            if text not in FUNCTIONS | AGGREGATIONS:
                raise UnreadableError(f"no function {text}: {expression}")
            place += 1
        elif after == "{":
            matchers, place = _until(tokens, place + 2, "}")
            named.metrics.append((text, _labels(matchers)))
        else:
            named.metrics.append((text, frozenset()))
            place += 1
    return named


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(expression):
        found = _TOKEN.match(expression, place)
        if found is None:
            raise UnreadableError(f"{expression[place:]!r} of {expression}")
        place = found.end()
        kind = found.lastgroup or ""
        if kind != "space":
            yield kind, found.group()


def _check_brackets(tokens: list[tuple[str, str]]) -> None:
    opened: list[str] = []
    for _, text in tokens:
        if text in _CLOSES.values():
            opened.append(text)
        elif text in _CLOSES and (not opened or opened.pop() != _CLOSES[text]):
            raise UnreadableError(f"a {text} closes nothing")
    if opened:
        raise UnreadableError(f"a {opened[-1]} is not closed")


def _until(
    tokens: list[tuple[str, str]], place: int, end: str
) -> tuple[list[tuple[str, str]], int]:
    inside: list[tuple[str, str]] = []
    while tokens[place][1] != end:
        inside.append(tokens[place])
        place += 1
    return inside, place + 1


def _labels(matchers: list[tuple[str, str]]) -> frozenset[str]:
    labels = [text for kind, text in matchers if kind == "word"]
    signs = [text for _, text in matchers if text in {"=", "!=", "=~", "!~"}]
    if len(labels) != len(signs):
        raise UnreadableError(f"matchers are label, sign, text: {matchers}")
    return frozenset(labels)
