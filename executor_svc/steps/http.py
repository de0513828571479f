"""Steps that call an HTTP API."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx2
import orjson

from executor_svc.graphs.kinds import URL_EXPRESSION
from executor_svc.steps.kind import StepCall, StepError, input_error

RETRYABLE = frozenset({408, 425, 429})
MESSAGE_CHARACTERS = 500
LONGEST_RETRY_AFTER = timedelta(hours=24)


class HttpKind:
    """See `HttpStep` in graph.proto."""

    def __init__(self, client: httpx2.AsyncClient, *, max_response_bytes: int) -> None:
        self._client = client
        self._max_response_bytes = max_response_bytes

    async def run(self, call: StepCall) -> Any:
        spec = call.spec
        headers = httpx2.Headers(
            {name: value.string_value for name, value in spec.headers.fields.items()}
        )
        headers["Idempotency-Key"] = call.context.idempotency_key
        content = None
        if call.value is not None:
            content = orjson.dumps(call.value)
            headers.setdefault("Content-Type", "application/json")
        try:
            async with self._client.stream(
                spec.method or "POST", _url(call), headers=headers, content=content
            ) as response:
                body = await self._read(response)
        except httpx2.InvalidURL as error:
            raise input_error(f"gives a URL that is not valid: {error}") from None
        except httpx2.HTTPError as error:
            raise StepError(
                f"{type(error).__name__}: {error}",
                retryable=True,
                metadata={"exception": type(error).__name__},
            ) from error
        if response.status_code >= httpx2.codes.BAD_REQUEST:
            raise _fault(response, body)
        return {
            "status": response.status_code,
            "headers": dict(response.headers),
            "body": _parse(response, body),
        }

    async def _read(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self._max_response_bytes:
                raise StepError(
                    f"the response is larger than {self._max_response_bytes} bytes",
                    reason="OUTPUT_TOO_LARGE",
                    metadata={"limit_bytes": str(self._max_response_bytes)},
                )
        return bytes(body)


def _url(call: StepCall) -> str:
    """Put the values of the URL's expressions in, percent-encoded."""
    values = iter(call.template)
    return URL_EXPRESSION.sub(
        lambda _: quote(_text(call.evaluate(next(values))), safe=""), call.spec.url
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _parse(response: httpx2.Response, body: bytes) -> Any:
    if body and "json" in response.headers.get("content-type", ""):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise StepError("the response says it is JSON, but is not") from None
    return body.decode(response.encoding or "utf-8", "replace")


def _fault(response: httpx2.Response, body: bytes) -> StepError:
    status = response.status_code
    retryable = status in RETRYABLE or status >= httpx2.codes.INTERNAL_SERVER_ERROR
    text = body[:MESSAGE_CHARACTERS].decode("utf-8", "replace")
    return StepError(
        f"HTTP {status}: {text}",
        retryable=retryable,
        retry_after=retry_after(response.headers.get("retry-after")) if retryable else None,
        metadata={"http_status": str(status)},
    )


def retry_after(value: str | None) -> timedelta | None:
    """Read a Retry-After header: seconds or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        wait = (
            timedelta(seconds=int(value))
            if value.strip().isdigit()
            else parsedate_to_datetime(value) - datetime.now(UTC)
        )
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)
