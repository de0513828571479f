from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stepwire.cli.trace import draw
from stepwire.cli.waterfall import bar, lay_out, of_task
from stepwire.telemetry.names import STEP_ID, TASK_ID
from stepwire.telemetry.spans import Span

MILLI = 1_000_000


def span(
    span_id: str,
    parent: str = "",
    *,
    start: int = 0,
    end: int = 10,
    name: str = "",
    service: str = "worker",
    **more: object,
) -> Span:
    return Span(
        trace_id="f" * 32,
        span_id=span_id,
        parent_id=parent,
        name=name or span_id,
        service=service,
        kind="INTERNAL",
        start=start * MILLI,
        end=end * MILLI,
        **more,  # type: ignore[arg-type]
    )


def shown(spans: list[Span]) -> list[tuple[str, int]]:
    return [(row.span.span_id, len(row.ancestry)) for row in lay_out(spans)]


def drawn(spans: list[Span], *, width: int = 80, encoding: str = "utf-8") -> list[str]:
    class File(StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return encoding

    file = File()
    draw(spans, trace_id="f" * 32, screen=Console(file=file, width=width))
    return file.getvalue().splitlines()


def test_spans_stand_below_their_parents_in_order_of_start() -> None:
    spans = [span("d", "b", start=4), span("c", "a", start=5), span("b", "a", start=1), span("a")]
    assert shown(spans) == [("a", 0), ("b", 1), ("d", 2), ("c", 1)]


def test_a_span_whose_parent_is_missing_stands_at_the_top() -> None:
    rows = lay_out([span("a"), span("c", "lost", start=3), span("d", "c", start=4)])
    assert [(row.span.span_id, row.is_orphan) for row in rows] == [
        ("a", False),
        ("c", True),
        ("d", False),
    ]


def test_parents_in_a_circle_are_shown_once_each() -> None:
    assert sorted(shown([span("a", "b"), span("b", "a"), span("c", "c")])) == [
        ("a", 0),
        ("b", 1),
        ("c", 0),
    ]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12))
def test_every_span_is_shown_exactly_once(edges: list[tuple[int, int]]) -> None:
    spans = [span(str(child), str(parent)) for child, parent in dict(edges).items()]
    assert sorted(name for name, _ in shown(spans)) == sorted(one.span_id for one in spans)


def test_spans_of_other_tasks_in_the_trace_are_left_out_with_all_below() -> None:
    spans = [
        span("root"),
        span("mine", "root", attributes={TASK_ID: "t1"}),
        span("below", "mine"),
        span("other", "root", attributes={TASK_ID: "t2"}),
        span("below-other", "other"),
    ]
    assert [one.span_id for one in of_task(spans, "t1")] == ["root", "mine", "below"]


def test_a_bar_lies_on_the_axis_and_is_never_empty() -> None:
    axis = {"start": 0, "end": 100 * MILLI, "width": 20}
    assert bar(span("a", start=0, end=100), **axis) == (0, 20)
    assert bar(span("a", start=50, end=75), **axis) == (10, 5)
    assert bar(span("a", start=100, end=100), **axis) == (19, 1)
    assert bar(span("a", start=0, end=0), start=0, end=0, width=20) == (0, 1)


def test_the_drawing_fits_the_screen_and_says_what_failed() -> None:
    spans = [
        span("a", name="/stepwire.api.executor.v1.ExecutorService/CreateTask", end=100),
        span("b", "a", name="step", attributes={STEP_ID: "embed[3]"}, start=20, end=60),
        span(
            "c",
            "b",
            name="x" * 90,
            service="router",
            start=30,
            end=50,
            status="ERROR",
            message="no",
        ),
        span("d", "lost", name="late", start=90, end=95),
    ]
    lines = drawn(spans)
    assert all(len(line) <= 80 for line in lines[:-2])
    assert lines[1] == "4 spans of 2 services in 100.0 ms"
    assert "CreateTask" in lines[2]
    assert "100.0 ms" in lines[2]
    assert "└ step embed[3]" in lines[3]
    assert "  └ ! xxx" in lines[4]
    assert "? late" in lines[5]
    assert lines[-2] == f"! router {'x' * 90}: no"
    assert "is not kept" in lines[-1]


def test_the_drawing_needs_no_more_than_ascii() -> None:
    lines = drawn([span("a"), span("b", "a", start=2, end=4)], encoding="ascii")
    assert "\n".join(lines).isascii()
    assert "`-b" in lines[3]
