"""Lays out the spans of a trace as a waterfall. Pure; `stepwire trace` draws it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from stepwire.telemetry.names import TASK_ID
from stepwire.telemetry.spans import Span


@dataclass(frozen=True, slots=True)
class Row:
    """A span and its place in the waterfall.

    Attributes:
        span: The span.
        ancestry: For each level above it, from the root's children down to the span itself,
            whether it is the last child there; empty for a root.
        is_orphan: Whether its parent is not among the spans.
    """

    span: Span
    ancestry: tuple[bool, ...]
    is_orphan: bool


def of_task(spans: Sequence[Span], task_id: str) -> list[Span]:
    """Returns the spans without those of other tasks, and without what is below those.

    Tasks that were created by one call share its trace.
    """
    parents = {span.span_id: span.parent_id for span in spans}
    foreign = {span.span_id for span in spans if span.attributes.get(TASK_ID, task_id) != task_id}

    def is_foreign(span_id: str) -> bool:
        seen: set[str] = set()
        while span_id in parents and span_id not in seen:
            if span_id in foreign:
                return True
            seen.add(span_id)
            span_id = parents[span_id]
        return False

    return [span for span in spans if not is_foreign(span.span_id)]


def lay_out(spans: Sequence[Span]) -> list[Row]:
    """Returns the spans as rows: each below its parent, siblings by their start.

    A span whose parent is missing stands at the top level, in its place by its start. Spans
    that are each other's parents, as a broken sender might say, are shown all the same.
    """
    ids = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        known = span.parent_id in ids and span.parent_id != span.span_id
        children.setdefault(span.parent_id if known else "", []).append(span)
    shown: set[str] = set()
    rows = list(_walk(children.get("", ()), children, (), shown))
    for span in spans:
        if span.span_id not in shown:
            rows += _walk([span], children, (), shown)
    return rows


def _walk(
    siblings: Iterable[Span],
    children: dict[str, list[Span]],
    ancestry: tuple[bool, ...],
    shown: set[str],
    *,
    nested: bool = False,
) -> Iterator[Row]:
    pending = [span for span in siblings if span.span_id not in shown]
    for number, span in enumerate(pending, start=1):
        shown.add(span.span_id)
        own = (*ancestry, number == len(pending)) if nested else ()
        yield Row(span=span, ancestry=own, is_orphan=not nested and bool(span.parent_id))
        yield from _walk(children.get(span.span_id, ()), children, own, shown, nested=True)


def bar(span: Span, *, start: int, end: int, width: int) -> tuple[int, int]:
    """Returns where a span's bar begins on a time axis, and how long it is, in cells.

    Args:
        span: The span, within the axis.
        start: Where the axis begins, in nanoseconds since 1970.
        end: Where it ends; not before `start`.
        width: Cells of the axis, at least 1.

    Returns:
        The first cell, from 0, and the number of cells, at least 1; never beyond the axis.
    """
    scale = width / max(1, end - start)
    first = min(int((span.start - start) * scale), width - 1)
    cells = max(1, round((span.end - span.start) * scale))
    return first, min(cells, width - first)


def indent(row: Row, *, ascii_only: bool) -> str:
    """Returns the lines of the tree that lead to a row's name."""
    if not row.ancestry:
        return ""
    through, last, branch = ("| ", "`-", "+-") if ascii_only else ("│ ", "└ ", "├ ")
    above = "".join("  " if is_last else through for is_last in row.ancestry[:-1])
    return above + (last if row.ancestry[-1] else branch)
