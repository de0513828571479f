"""Records to every instrument of our processes, and reads what Prometheus is told of them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import Metric

import executor_svc.metrics
import executor_svc.schedules.metrics
import stepwire.rpc.interceptors.call_metrics
import vector_svc.metrics
from executor_svc.queues.queues import QueueView
from executor_svc.queues.signals import Pool, QueueSignals
from executor_svc.queues.stats import QueueStats
from gateway.metrics import CheckMetrics, CompanionMetrics
from gateway.ports import Status
from model_svc.generation.metrics import GenerationMetrics
from model_svc.health import Fallbacks, observe_hanging
from model_svc.metrics import ModelMetrics
from router_svc.budgets.metrics import BudgetMetrics
from router_svc.cache.metrics import CacheMetrics
from router_svc.generate.records import CacheHit, HitKind
from router_svc.learning.metrics import LearningMetrics
from router_svc.limits.metrics import LimitMetrics, SlotMetrics
from router_svc.metrics import RouterMetrics
from router_svc.usage.metrics import UsageMetrics
from stepwire.db import pool_metrics
from stepwire.rpc.client import CallRecorder
from stepwire.telemetry.durations import all_durations
from stepwire.telemetry.exposition import family_of
from vector_svc.search.records import Plan

Names = dict[str, tuple[str, frozenset[str]]]
"""Of each family of metrics its type, and the labels of its samples."""

SCOPE = frozenset({"otel_scope_name", "otel_scope_version", "otel_scope_schema_url"})
MODULES = (
    executor_svc.metrics,
    executor_svc.schedules.metrics,
    stepwire.rpc.interceptors.call_metrics,
    vector_svc.metrics,
    pool_metrics,
)


def exposed() -> Names:
    """Return all that our code can expose."""
    with metered() as (meter, reader), ExitStack() as stack:
        made = [*_executor(stack), *_router(meter), *_model(meter), _vector(), _companion(meter)]
        assert made
        families = list(reader._collector.collect())
    return _names(families) | {
        family_of(each).name: (
            "histogram",
            frozenset(name.replace(".", "_") for name in each.attributes),
        )
        for each in all_durations()
        if not each.name.startswith("test.")
    }


@contextmanager
def metered() -> Iterator[tuple[Meter, Any]]:
    """Give a meter whose instruments are read as Prometheus reads them."""
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader])
    meter = provider.get_meter("stepwire")
    with ExitStack() as stack:
        for module in MODULES:
            stack.enter_context(patch.object(module, "meter", lambda: meter))
        yield meter, reader
    provider.shutdown()


def _names(families: list[Metric]) -> Names:
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            frozenset().union(*(sample.labels for sample in family.samples)) - SCOPE - {"le"},
        )
        for family in families
        if family.name != "target"
    }


def _executor(stack: ExitStack) -> list[object]:
    module, later = executor_svc.metrics, timedelta(seconds=1)
    executor, sweeps, tasks = module.ExecutorMetrics(), module.SweepMetrics(), module.TaskMetrics()
    executor.accepted(1)
    sweeps.swept("due", 1)
    sweeps.done(lag=later)
    tasks.retried(1)
    relay, subscriptions = module.RelayMetrics(), module.SubscriptionMetrics()
    relay.carried_out("parent", later)
    relay.postponed("parent")
    subscriptions.event("webhook")
    worker = module.WorkerMetrics(used_slots=lambda: 1, slots=2)
    worker.claimed(2, 1)
    schedules = executor_svc.schedules.metrics.ScheduleMetrics()
    schedules.fired([SimpleNamespace(outcome="STARTED")], late=1.0)  # type: ignore[list-item]
    queues = module.QueueMetrics()
    queues.update([QueueView(_signals(), "", datetime.now(UTC))])
    pool_metrics._gauges.cache_clear()
    use = pool_metrics.PoolUse(1, 2, 3)
    stack.enter_context(pool_metrics.watched_pool("test", lambda: use))
    stack.callback(pool_metrics._gauges.cache_clear)
    calls = stepwire.rpc.interceptors.call_metrics.CallMetrics()
    return [executor, sweeps, tasks, relay, subscriptions, worker, schedules, queues, calls,
            QueueStats(), CallRecorder()]  # fmt: skip


def _signals() -> QueueSignals:
    return QueueSignals(
        queue="default",
        ready=1,
        running=1,
        waiting=1,
        oldest_ready_seconds=1.0,
        wait_seconds=1.0,
        arrival_rate=1.0,
        completion_rate=1.0,
        failure_rate=1.0,
        service_seconds=1.0,
        pool=Pool(1, 1, 1),
        slots_wanted=1.0,
        workers_wanted=1,
    )


def _router(meter: Meter) -> list[object]:
    model: Any = SimpleNamespace(name="m", provider=SimpleNamespace(kind="openai"))
    router = RouterMetrics(meter)
    router.catalogue_read(True)
    router.decided(model="m", outcome="chosen")
    router.tried(model, seconds=1.0, error_type="timeout", used="m-1")
    router.first_token(model, 1.0)
    router.per_token(model, 1.0)
    router.breaker_changed("b", "open")
    router.watch_breakers(lambda: {"b": True})
    router.answered(model, input_tokens=1, output_tokens=1, cost_micro_usd=1)
    budget: Any = SimpleNamespace(tenant_id="t", name="b")
    standing: Any = SimpleNamespace(left=1, limit=2)
    budgets = BudgetMetrics(meter, lambda: [(budget, standing)])
    budgets.refused(budget)
    budgets.lost(1)
    alarm: Any = SimpleNamespace(
        percent=80, budget_id="b", key="", spent_micro_usd=1, limit_micro_usd=1
    )
    budgets.alarmed(alarm, budget)
    usage: Any = SimpleNamespace(input_tokens=1, output_tokens=1)
    entry: Any = SimpleNamespace(model=model, cost_micro_usd=2, usage=usage)
    budgets.exceeded(entry, held_micro_usd=1)
    cache = CacheMetrics(meter)
    cache.watch_memory(lambda: 1)
    cache.answered("t", CacheHit(HitKind.EXACT, saved_micro_usd=1))
    cache.refused("t", "number")
    cache.found("t", "memory")
    cache.failed("t", "redis")
    learning = LearningMetrics(meter)
    learning.forgotten(1)
    learning.reported()
    version: Any = SimpleNamespace(state=SimpleNamespace(value="ACTIVE"))
    learning.trained(version)
    limits = LimitMetrics(meter)
    limits.refused("m", "tokens")
    slots = SlotMetrics(meter, lambda: [("m", 2, 1)])
    lost = UsageMetrics(meter)
    lost.lost(1)
    return [router, budgets, cache, learning, limits, slots, lost]


def _model(meter: Meter) -> list[object]:
    model = ModelMetrics(meter, model="m", version="1", reads_text=True)
    model.batch_ran(
        items=1,
        size=1,
        padded_size=1,
        full=1,
        wait_seconds=1.0,
        seconds=1.0,
        device="cpu",
        failed=True,
    )
    model.cache_hit(1.0)
    written = GenerationMetrics(meter, model="m", version="1")
    written.read(1)
    written.wrote(1.0)
    written.broken_off(ValueError())
    served = SimpleNamespace(name="m", version="1", model=SimpleNamespace(fallback="no GPU"))
    repository: Any = SimpleNamespace(served=lambda: [served], hanging={"m": 1})
    observe_hanging(repository, meter)
    return [model, written, Fallbacks(repository, meter)]


def _vector() -> object:
    vector = vector_svc.metrics.VectorMetrics()
    vector.searched(Plan.EXACT)
    vector.built("READY")
    for counter in (
        vector.walks_given_up,
        vector.points_written,
        vector.points_deleted,
        vector.points_expired,
        vector.queries_kept,
        vector.queries_dropped,
    ):
        counter.add(1)
    return vector


def _companion(meter: Meter) -> object:
    companion = CompanionMetrics(meter)
    companion.told("executor", Status.SERVING)
    checks = CheckMetrics(meter)
    checks.allowed()
    return companion, checks


def main() -> None:
    """Print the part of `deploy/observability/metrics.yaml` that is ours."""
    for name, (kind, labels) in sorted(exposed().items()):
        print(f"  {name}: [{', '.join([kind, *sorted(labels)])}]")  # noqa: T201


if __name__ == "__main__":
    main()
