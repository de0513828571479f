"""Spans kept on disk: how they are written by the collector, and how they are read.

One line per span, as JSON, in files `spans-NUMBER.jsonl` with rising numbers:

    {"trace_id": "32 hex digits", "span_id": "16 hex digits",
     "parent_id": "16 hex digits, or empty", "name": "step", "service": "executor",
     "kind": "INTERNAL", "start": 1790000000000000000, "end": 1790000000000000000,
     "status": "OK, ERROR or empty", "message": "what went wrong, or empty",
     "attributes": {"name": "value"}, "links": ["a linked trace's id"]}

Times are nanoseconds since 1970.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

FILE_PATTERN = "spans-*.jsonl"


@dataclass(frozen=True, kw_only=True)
class Span:
    """One ended span.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_id: The span above it; empty for a root.
        name: What was done.
        service: The process that did it, e.g. "executor".
        kind: INTERNAL, SERVER, CLIENT, PRODUCER or CONSUMER.
        start: When it began, in nanoseconds since 1970.
        end: When it ended, likewise.
        status: "OK", "ERROR", or empty where nobody said.
        message: What went wrong; may be empty.
        attributes: Its attributes.
        links: The traces that it is linked to.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    kind: str
    start: int
    end: int
    status: str = ""
    message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    links: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) / 1e9


def read_trace(folder: Path, trace_id: str) -> list[Span]:
    """Returns the spans of a trace that are kept in `folder`, in order of their start.

    A span that arrived twice is returned once. No span is known under an id that no
    trace has: the list is then empty.
    """
    wanted = trace_id.lower()
    found = {span.span_id: span for span in _matching(folder, wanted) if span.trace_id == wanted}
    return sorted(found.values(), key=lambda span: (span.start, span.end))


def read_linked(folder: Path, trace_id: str) -> list[Span]:
    """Returns the spans of other traces that are linked to a trace, in order of start."""
    wanted = trace_id.lower()
    found = {span.span_id: span for span in _matching(folder, wanted) if wanted in span.links}
    return sorted(found.values(), key=lambda span: (span.start, span.end))


def encode_span(span: Span) -> bytes:
    """Returns a span as a line of a file."""
    return orjson.dumps(asdict(span), option=orjson.OPT_APPEND_NEWLINE)


def span_files(folder: Path) -> list[Path]:
    """Returns the files of spans, oldest first."""
    return sorted(folder.glob(FILE_PATTERN))


def _matching(folder: Path, text: str) -> Iterator[Span]:
    """Gives the spans whose line has `text` in it: only those lines are parsed."""
    needle = text.encode()
    for path in span_files(folder):
        try:
            lines: Iterable[bytes] = path.read_bytes().splitlines()
        except FileNotFoundError:
            # Removed by the collector since the folder was listed.
            continue
        for line in lines:
            if needle in line:
                span = _decode(line)
                if span is not None:
                    yield span


def _decode(line: bytes) -> Span | None:
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError:
        # The last line of a collector that was killed while writing.
        return None
    return Span(**{**raw, "links": tuple(raw["links"])})
