"""Between the messages of UsageService and its records."""

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from router_svc.usage.records import TIMES, Group, Question, UsageSum
from stepwire.api.router.v1 import usage_service_pb2 as pb
from stepwire.errors import Reason, StepwireError, field_invalid
from stepwire.page_tokens import PageTokens

PAGES: Final = PageTokens("GetUsage")
DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1_000
DEFAULT_SPAN: Final = timedelta(hours=24)
LONGEST_SPAN: Final = timedelta(days=400)
_HOUR: Final = timedelta(hours=1)
# Ends between which a span begins and ends in years that there are.
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC) + DEFAULT_SPAN
_LATEST: Final = datetime.max.replace(tzinfo=UTC) - _HOUR
_GROUPS = {pb.UsageGroup.Value(f"USAGE_GROUP_{each.name}"): each for each in Group}


def question_of(request: pb.GetUsageRequest, *, tenant_id: str, now: datetime) -> Question:
    """Reads what is asked for; the page has one sum more than fits, if there are more.

    Raises:
        StepwireError: FIELD_INVALID, naming the field; PAGE_TOKEN_INVALID.
    """
    for name in ("project", "task_id", "model"):
        if "\0" in getattr(request, name):
            raise field_invalid(name, "must not hold U+0000")
    end = _time(request.end_time, "end_time") if request.HasField("end_time") else now
    if not _EARLIEST <= end <= _LATEST:
        raise field_invalid("end_time", "is too far away")
    start = end - DEFAULT_SPAN
    if request.HasField("start_time"):
        start = _time(request.start_time, "start_time")
    start, end = _hour(start), _hour(end + _HOUR - timedelta(microseconds=1))
    if start >= end:
        raise field_invalid("start_time", "must be before end_time")
    if end - start > LONGEST_SPAN + _HOUR:
        raise field_invalid("start_time", f"must be at most {LONGEST_SPAN.days} days before")
    return Question(
        tenant_id=tenant_id,
        start=start,
        end=end,
        project=request.project,
        task_id=request.task_id,
        model=request.model,
        groups=_groups(request),
        skip=_skip(request, tenant_id),
        limit=_page_size(request) + 1,
    )


def write_page(found: list[UsageSum], question: Question, response: pb.GetUsageResponse) -> None:
    """Writes a page of sums, and the token of the next."""
    size = question.limit - 1
    for each in found[:size]:
        _write_sum(each, response.sums.add())
    if len(found) > size:
        response.next_page_token = PAGES.make(question.tenant_id, str(question.skip + size))


def _write_sum(given: UsageSum, message: pb.UsageSum) -> None:
    message.MergeFrom(
        pb.UsageSum(
            project=given.project,
            task_id=given.task_id,
            step_id=given.step_id,
            model=given.model,
            calls=given.calls,
            answered=given.answered,
            cached=given.cached,
            estimated=given.estimated,
            input_tokens=given.input_tokens,
            output_tokens=given.output_tokens,
            cached_input_tokens=given.cached_input_tokens,
            reasoning_tokens=given.reasoning_tokens,
            cost_micro_usd=given.cost_micro_usd,
        )
    )
    if given.period_start is not None:
        message.period_start.FromDatetime(given.period_start)


def _groups(request: pb.GetUsageRequest) -> frozenset[Group]:
    for number in request.group_by:
        if number not in _GROUPS:
            raise field_invalid("group_by", f"{number} is not a group")
    groups = frozenset(_GROUPS[number] for number in request.group_by)
    if sum(time in groups for time in TIMES) > 1:
        raise field_invalid("group_by", "must have at most one of HOUR, DAY and MONTH")
    return groups


def _page_size(request: pb.GetUsageRequest) -> int:
    if request.page_size < 0:
        raise field_invalid("page_size", "must not be negative")
    return min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _skip(request: pb.GetUsageRequest, tenant_id: str) -> int:
    last = PAGES.read(tenant_id, request.page_token)
    if last and not last.isdecimal():
        raise StepwireError(
            Reason.PAGE_TOKEN_INVALID, "page_token: is no token", metadata={"field": "page_token"}
        )
    return int(last or 0)


def _time(message: Timestamp, field: str) -> datetime:
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise field_invalid(field, "is not a valid point in time") from None


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
