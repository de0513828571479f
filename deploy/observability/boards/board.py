"""What a dashboard consists of, as values."""

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["timeseries", "stat", "table", "bargauge"]


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of PromQL, and how its series are called; `{{label}}` is a label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a value is shown in yellow, and in red; below `red` if `falling`."""

    yellow: float
    red: float
    falling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture.

    Attributes:
        title: What is shown.
        text: What it means, and what to do about it.
        queries: What is drawn.
        unit: Grafana's name of the unit.
        kind: How it is drawn.
        width: In the board's 24 columns.
        height: In rows of 30 pixels.
        stacked: Whether series are added up.
        limits: Colours, for stats and bars.
        most: The largest value that there can be.
    """

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False
    limits: Limits | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a board: the values of a label of a metric."""

    name: str
    label: str
    metric: str
    of: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A link to the traces of an operation in Jaeger; all of the service if it has no name."""

    title: str
    service: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard.

    Attributes:
        uid: Its name in addresses, the same for ever.
        title: Its name for people.
        text: What it answers.
        rows: Its panels.
        variables: What can be chosen.
        traces: Where to find traces of what it shows.
    """

    uid: str
    title: str
    text: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = field(default=())
    traces: tuple[Operation, ...] = field(default=())
