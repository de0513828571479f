import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry import trace

from stepwire.call import call_context
from stepwire.telemetry import context_from_traceparent
from stepwire.telemetry.logs import CHATTY, SILENT, JsonFormatter, setup_logging


def line(message="text", *args, level=logging.INFO, exc_info=None, **extra):
    logger = logging.getLogger("test.logger")
    record = logger.makeRecord(
        logger.name, level, __file__, 1, message, args, exc_info, extra=extra or None
    )
    return json.loads(JsonFormatter("router").format(record))


def test_a_line_says_what_where_and_when():
    got = line("%d models", 3, level=logging.WARNING)
    time = datetime.fromisoformat(got.pop("time"))
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60
    assert got == {
        "level": "WARNING",
        "logger": "test.logger",
        "message": "3 models",
        "service": "router",
    }


def test_extra_fields_are_fields_of_the_line():
    got = line(task_id="t1", count=3, path=Path("/x"), by={1: "a"})
    assert (got["task_id"], got["count"], got["path"]) == ("t1", 3, "/x")
    assert got["by"] == {"1": "a"}


def test_within_a_call_the_line_carries_its_ids():
    with call_context(tenant_id="acme", request_id="r-1"):
        got = line()
    assert (got["tenant_id"], got["request_id"]) == ("acme", "r-1")


def test_within_a_span_the_line_carries_the_trace():
    context = context_from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    with trace.use_span(trace.get_current_span(context)):
        got = line()
    assert (got["trace_id"], got["span_id"]) == (
        "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331",
    )


def test_an_exception_is_in_the_line_whole_and_the_line_stays_one():
    try:
        int("broken")
    except ValueError:
        got = line(exc_info=sys.exc_info())
    assert got["exception"].startswith("Traceback")
    assert "ValueError: invalid literal" in got["exception"]
    logger = logging.getLogger("test.logger")
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 1, "a\nb", (), None)
    assert "\n" not in JsonFormatter("router").format(record)


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (*CHATTY, *SILENT):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)


def test_setup_writes_json_to_standard_error_from_the_level_up(restored_logging, capsys):
    setup_logging("router", "WARNING")
    logging.getLogger("anything").info("not written")
    logging.getLogger("anything").warning("written", extra={"a": 1})
    (written,) = capsys.readouterr().err.splitlines()
    assert json.loads(written)["message"] == "written"
    assert json.loads(written)["a"] == 1


def test_what_is_told_by_whoever_uses_a_library_is_told_once(restored_logging, capsys):
    setup_logging("router", "INFO")
    for name in SILENT:
        logging.getLogger(f"{name}.adapters").error("not written")
    for name in CHATTY:
        logging.getLogger(name).info("not written")
        logging.getLogger(name).warning("written")
    assert len(capsys.readouterr().err.splitlines()) == len(CHATTY)
