"""Kept answers in memory and as bytes, and what is counted of them."""

from dataclasses import replace
from uuid import UUID

import pytest
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from router_svc.cache import invalidations as invalidations_module
from router_svc.cache import memory as memory_module
from router_svc.cache.codec import decode_kept, decode_marked, encode_kept, encode_marked
from router_svc.cache.invalidations import CURRENT_SECONDS, Invalidations
from router_svc.cache.memory import MemoryAnswers
from router_svc.cache.metrics import CacheMetrics
from router_svc.cache.part import REST_SECONDS, Part
from router_svc.cache.records import Invalidation, Kept, Marked, Selection
from router_svc.generate.records import CacheHit, Citation, Completion, FinishReason, HitKind
from router_svc.generate.usage import Usage
from router_svc.requests.records import ToolCall

KEPT = Kept(
    key=b"k" * 32,
    partition=b"p" * 32,
    tenant_id="ours",
    question="What is this?",
    model="small",
    completion=Completion(
        "A river.",
        citations=(Citation("report", "It rose."),),
        usage=Usage(7, 3, 2, 1, estimated=True),
        tool_calls=(ToolCall("1", "gauge", '{"metres": 2}'),),
        finish=FinishReason.TOOL_CALLS,
        model="small-2026-01",
    ),
    usage=Usage(7, 3, 2, 1, estimated=True),
    cost_micro_usd=120,
    decision_id=UUID(int=9),
    tags=("a", "b"),
    kept_at=100.0,
)
ALL = Selection("ours")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> MemoryAnswers:
    return MemoryAnswers(10_000, Invalidations(clock), ttl_seconds=60, clock=clock)


def test_an_answer_is_the_same_after_it_was_bytes() -> None:
    read = decode_kept(encode_kept(KEPT), key=KEPT.key, tenant_id="ours", kept_at=100.0)
    assert read == KEPT


def test_a_form_of_another_version_is_unknown() -> None:
    data = encode_kept(KEPT).replace(b'"form":1', b'"form":2')
    assert decode_kept(data, key=KEPT.key, tenant_id="ours", kept_at=100.0) is None


def test_an_answer_is_the_same_after_it_was_in_redis_whatever_the_clocks_say() -> None:
    data = encode_marked(Marked(KEPT, "m"), clock_ahead_seconds=7.0)
    read = decode_marked(data, key=KEPT.key, clock_ahead_seconds=-2.0)
    assert read == Marked(replace(KEPT, kept_at=109.0), "m")


def test_what_redis_has_of_others_is_not_there() -> None:
    data = encode_marked(Marked(KEPT, "m"), clock_ahead_seconds=0.0)
    for other, key in [
        (data, b"K" * 32),
        (data.replace(b"[1,", b"[2,", 1), KEPT.key),
        (data.replace(b'"form":1', b'"form":2'), KEPT.key),
        (data[:-2], KEPT.key),
        (b"", KEPT.key),
        (b"7\n{}", KEPT.key),
    ]:
        assert decode_marked(other, key=key, clock_ahead_seconds=0.0) is None, other


def test_an_answer_lives_as_long_as_it_may(memory: MemoryAnswers, clock: Clock) -> None:
    memory.put(KEPT, seen=0)
    clock.now += 59.9
    assert memory.get(KEPT.key, max_age_seconds=60) == KEPT
    assert memory.get(KEPT.key, max_age_seconds=59) is None
    assert memory.size_bytes > 0
    clock.now += 0.2
    assert memory.get(KEPT.key, max_age_seconds=60) is None
    assert memory.size_bytes == 0


def test_a_newer_answer_is_not_replaced_by_an_older_one(memory: MemoryAnswers) -> None:
    memory.put(KEPT, seen=0)
    memory.put(replace(KEPT, kept_at=90.0, model="large"), seen=0)
    assert memory.get(KEPT.key, max_age_seconds=60) == KEPT


def test_an_answer_that_is_too_long_is_kept_nowhere(
    memory: MemoryAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "MAX_ANSWER_BYTES", len(encode_kept(KEPT)) - 1)
    assert not memory.put(KEPT, seen=0)


def test_what_was_begun_before_an_invalidation_is_not_kept_after_it(
    memory: MemoryAnswers,
) -> None:
    memory.invalidate(Invalidation(1, replace(ALL, tag="c"), None))
    assert memory.put(KEPT, seen=0)
    assert memory.invalidate(Invalidation(2, replace(ALL, tag="b"), None)) == 1
    assert not memory.put(KEPT, seen=1)
    assert memory.put(KEPT, seen=2)
    # An old number changes nothing any more.
    assert memory.invalidate(Invalidation(2, ALL, None)) == 0
    assert memory.invalidate(Invalidation(3, ALL, 99.0)) == 0
    assert memory.invalidate(Invalidation(4, ALL, 100.0)) == 1


def test_more_invalidations_than_are_remembered_may_be_about_anything(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidations_module, "REMEMBERED", 2)
    memory = MemoryAnswers(10_000, Invalidations(clock), ttl_seconds=60, clock=clock)
    for number in (1, 2, 3):
        memory.invalidate(Invalidation(number, Selection("theirs"), None))
    assert not memory.put(KEPT, seen=0)
    assert memory.put(KEPT, seen=1)


def test_marks_are_known_as_long_as_all_since_are(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidations_module, "REMEMBERED", 2)
    known = Invalidations(clock)
    assert (known.mark, known.number_of("")) == ("", None)
    for number, mark in ((4, "a"), (6, "b"), (7, "c")):
        assert known.add(Invalidation(number, Selection("theirs"), None, mark))
    assert known.mark == "c"
    assert [known.number_of(mark) for mark in ("a", "b", "c", "d")] == [None, 6, 7, None]


def test_what_is_known_is_all_for_a_moment_only(clock: Clock) -> None:
    known = Invalidations(clock)
    assert not known.is_current
    begun = known.now()
    clock.now += 1
    known.caught_up(begun)
    assert known.is_current
    clock.now = begun + CURRENT_SECONDS
    assert not known.is_current


def test_a_part_that_failed_is_left_alone_for_a_while(clock: Clock) -> None:
    part = Part("record", clock)
    part.failed("")
    assert part.rests
    assert part.why
    clock.now += REST_SECONDS
    assert not part.rests
    part.answered()
    assert not part.why


def test_what_becomes_of_requests_is_measured() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    metrics = CacheMetrics(meters.get_meter("test"))
    metrics.watch_memory(lambda: 42)
    metrics.answered("ours", None)
    for kind in HitKind:
        metrics.answered("ours", CacheHit(kind, saved_micro_usd=2_000_000))
    metrics.refused("ours", "numbers")
    metrics.failed("ours", "record")
    metrics.found("ours", "memory")
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        (
            metric.name.removeprefix("stepwire.router.cache."),
            *point.attributes.values(),
        ): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    meters.shutdown()
    assert found == {
        ("lookups", "miss"): 1,
        ("lookups", "exact"): 1,
        ("lookups", "semantic"): 1,
        ("lookups", "joined"): 1,
        ("refused", "numbers"): 1,
        ("errors", "record"): 1,
        ("found", "memory"): 1,
        ("saved",): 6.0,
        ("memory",): 42,
    }
    assert metrics.of("theirs").requests == 0


def test_the_counts_of_few_tenants_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router_svc.cache.metrics.MAX_TENANTS", 2)
    metrics = CacheMetrics(NoOpMeter("test"))
    for tenant in ("a", "b", "a", "c"):
        metrics.answered(tenant, None)
    assert [metrics.of(tenant).requests for tenant in ("a", "c", "b")] == [2, 1, 0]
