"""Log lines as JSON on standard error, each with the ids that lead to its cause."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from opentelemetry import trace

from stepwire.call import current_call
from stepwire.telemetry.traceparent import trace_id_of

_STANDARD_FIELDS: Final = frozenset(
    (*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName")
)

# Libraries that speak of every message or connection below WARNING.
CHATTY: Final = ("asyncio", "httpx2", "httpcore2", "openai")
# Those whose errors are raised to, and told by, whoever uses them: each try to reach RabbitMQ
# while it is away would be seven lines more.
SILENT: Final = ("pika",)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Fields: `time`, `level`, `logger`, `message`, `service`; `request_id` and
    `tenant_id` within a call; `trace_id` and `span_id` within a span; what the log
    call gave as `extra`; `exception` with the traceback.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, without a line break at its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "service": self._service,
        }
        call = current_call()
        if call.request_id:
            line["request_id"] = call.request_id
            line["tenant_id"] = call.tenant_id
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            line["trace_id"] = f"{span.trace_id:032x}"
            line["span_id"] = f"{span.span_id:016x}"
        elif call.traceparent:
            line["trace_id"] = trace_id_of(call.traceparent)
        line |= {k: v for k, v in record.__dict__.items() if k not in _STANDARD_FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def setup_logging(service: str, level: str) -> None:
    """Sends all log lines of the process to standard error as JSON.

    Replaces handlers that are there; loggers of libraries are left at their levels,
    but never below WARNING where they speak of each message or connection.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    for silent in SILENT:
        logging.getLogger(silent).setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)
