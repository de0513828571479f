import logging
import sys

from stepwire.stack.readable import brief, readable
from stepwire.telemetry.logs import JsonFormatter


def a_line(**extras: object) -> str:
    record = logging.makeLogRecord(
        {"levelname": "WARNING", "msg": "it is late", "name": "harbour", "created": 0.5, **extras}
    )
    return JsonFormatter("harbour").format(record)


def test_a_line_of_ours_becomes_text_with_what_its_event_brings_along():
    line = a_line(berths=3, ship="Ann")
    text = "WARNING  it is late  berths=3  ship=Ann"
    assert readable(line) == f"1970-01-01T00:00:00.500+00:00 {text}"
    assert readable(f"1970-01-01T00:00:01.000Z router       {line}") == (
        f"1970-01-01T00:00:01.000Z router     {text}"
    )
    assert brief(line) == "WARNING it is late  berths=3  ship=Ann"


def test_an_exception_follows_with_its_line_breaks():
    try:
        int("no berth")
    except ValueError:
        line = a_line(exc_info=sys.exc_info())
    first, second, *_, last = readable(line).splitlines()
    assert first.endswith("it is late")
    assert second == "Traceback (most recent call last):"
    assert last.startswith("ValueError: invalid literal")


def test_what_is_not_ours_stays_as_it_is():
    for line in (
        "LOG:  database system is ready",
        "{broken",
        "[1, 2]",
        '{"level": 3}',
        "1970-01-01T00:00:01.000Z postgres     LOG:  ready",
    ):
        assert readable(line) == line
        assert brief(line) == line
