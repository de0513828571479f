"""What a concern may do around a call, whichever way the call came."""

import asyncio
import gc
from contextlib import suppress

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from stepwire.rpc.interceptors import tracing
from stepwire.rpc.interceptors.chain import Call, Method, surround
from stepwire.rpc.interceptors.deadline import Deadline
from stepwire.telemetry.tracer import QuietTracer

METHOD = Method("test.S/M", streams_requests=False, streams_responses=False, infrastructure=False)


class Context:
    def invocation_metadata(self):
        return (("x", "first"), ("x", "second"))

    def time_remaining(self):
        return None

    def code(self):
        return None


class Noted:
    """Concerns that note what they see."""

    def __init__(self):
        self.seen = []

    def __call__(self, name, *, refuses=None, instead=None, breaks=None):
        def around(call):
            if refuses is not None:
                raise refuses
            self.seen.append(f"+{name}")
            return leave

        def leave(call, error):
            self.seen.append(f"-{name} {error}")
            if breaks is not None:
                raise breaks
            return instead

        return around


def nothing(call):
    return None


async def work(call, request):
    if isinstance(request, BaseException):
        raise request
    return request


def run(arounds, request):
    return surround(work, arounds)(Call(METHOD, Context()), request)


async def test_concerns_are_entered_from_the_outside_in_and_left_from_the_inside_out():
    noted = Noted()
    assert await run([noted("a"), nothing, noted("b")], "answer") == "answer"
    assert noted.seen == ["+a", "+b", "-b None", "-a None"]


async def test_a_call_that_is_refused_leaves_what_it_has_entered():
    noted = Noted()
    with pytest.raises(ValueError, match="full"):
        await run([noted("a"), noted("b", refuses=ValueError("full")), noted("c")], "asked")
    assert noted.seen == ["+a", "-a full"]


async def test_what_a_concern_makes_of_a_failure_is_what_those_further_out_see():
    noted = Noted()
    clear, obscure = ValueError("clear"), KeyError("obscure")
    with pytest.raises(ValueError, match="clear") as caught:
        await run([noted("a"), noted("b", instead=clear), noted("c")], obscure)
    assert noted.seen[3:] == ["-c 'obscure'", "-b 'obscure'", "-a clear"]
    assert caught.value.__cause__ is obscure


async def test_a_failure_that_nobody_changes_is_raised_as_it_is():
    failure = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError) as caught:
        await run([Noted()("a"), Noted()("b", instead=failure)], failure)
    assert caught.value is failure
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("asked", ["answer", KeyError("failed")])
async def test_a_concern_that_breaks_does_not_keep_others_from_being_left(asked):
    noted = Noted()
    with pytest.raises(RuntimeError, match="broken"):
        await run([noted("a"), noted("b", breaks=RuntimeError("broken"))], asked)
    assert noted.seen[-1] == "-a broken"


async def test_a_failed_call_leaves_no_garbage():
    async def fail(call, request):
        raise KeyError("obscure")

    def clear(call, error):
        return ValueError("clear")

    async def failed():
        with suppress(ValueError):
            await surround(fail, [nothing, lambda call: clear])(Call(METHOD, Context()), "asked")

    await failed()
    gc.collect()
    gc.disable()
    try:
        await failed()
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_of_a_key_that_was_sent_twice_the_first_value_counts():
    assert Call(METHOD, Context()).metadata == {"x": "first"}


async def test_a_span_is_current_for_as_long_as_its_call(monkeypatch):
    traces = QuietTracer(TracerProvider(shutdown_on_exit=False).get_tracer("test"))
    monkeypatch.setattr(tracing, "tracer", lambda: traces)
    monkeypatch.setattr(tracing, "records_spans", lambda: True)

    async def look(call, request):
        return trace.get_current_span()

    span = await surround(look, [tracing.Tracing()])(Call(METHOD, Context()), "asked")
    assert span.name == "test.S/M"
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_who_has_answered_is_not_cancelled_later():
    within = surround(work, [Deadline(default_seconds=0.001, max_seconds=1)])
    assert await within(Call(METHOD, Context()), "answer") == "answer"
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.002, later.set)
    await later.wait()


async def test_who_answers_although_its_time_is_over_is_not_cancelled_any_more():
    async def late(call, request):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"

    within = surround(late, [Deadline(default_seconds=0.001, max_seconds=1)])
    assert await within(Call(METHOD, Context()), "asked") == "late"
    assert asyncio.current_task().cancelling() == 0


async def test_who_is_cancelled_by_another_too_is_cancelled_and_not_late():
    async def cancelled(call, request):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asyncio.current_task().cancel()
            await asyncio.Event().wait()

    within = surround(cancelled, [Deadline(default_seconds=0.001, max_seconds=1)])
    with pytest.raises(asyncio.CancelledError):
        await within(Call(METHOD, Context()), "asked")
    assert asyncio.current_task().uncancel() == 0
