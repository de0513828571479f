"""What waits, what works, and what keeps the record moving."""

from typing import Final

from deploy.observability.boards.board import Board, Operation, Panel, Query, Row, Variable
from deploy.observability.boards.expressions import mean, quantile, quantiles, total

_QUEUE: Final = 'stepwire_queue=~"$queue"'
STEPS: Final = "stepwire_worker_step_duration_seconds"
ENDS: Final = f"{STEPS}_count"
_FAILED: Final = 'stepwire_result="failed"'
_CLAIMS: Final = "stepwire_worker_steps_claimed_total"
_PASSED_OVER: Final = 'stepwire_result="passed_over"'
WAITS: Final = "stepwire_worker_step_wait_seconds"


def _gauge(name: str) -> str:
    # Every executor tells the same of all queues.
    return f"max by (stepwire_queue) (stepwire_queue_{name}{{{_QUEUE}}})"


def _by_queue(name: str) -> tuple[Query, ...]:
    return (Query(_gauge(name), "{{stepwire_queue}}"),)


WAITING: Final = Row(
    "Queues",
    (
        Panel(
            title="Oldest ready step",
            text="For how long it has been ready. It tells more than the depth: a deep queue that "
            "moves is well, a short one that stands is not. docs/runbooks/oldest-ready.md",
            queries=_by_queue("oldest_ready_seconds"),
            unit="s",
        ),
        Panel(
            title="Time to start",
            text="From ready to start, p50 and p95; steps that their worker goes on with at once "
            "count as 0. docs/runbooks/steps-start-late.md",
            queries=(
                Query(quantile(0.5, WAITS, _QUEUE, by="stepwire_queue"), "p50 {{stepwire_queue}}"),
                Query(quantile(0.95, WAITS, _QUEUE, by="stepwire_queue"), "p95 {{stepwire_queue}}"),
            ),
            unit="s",
        ),
        Panel(
            title="Ready steps",
            text="What could start if there were a slot. Growing: see workers wanted.",
            queries=_by_queue("ready"),
        ),
        Panel(
            title="Arrivals and ends",
            text="Steps per second, means of a minute. Arrivals above ends: the backlog grows.",
            queries=(
                Query(_gauge("arrival_rate"), "in {{stepwire_queue}}"),
                Query(_gauge("completion_rate"), "out {{stepwire_queue}}"),
            ),
            unit="ops",
        ),
        Panel(
            title="Running and waiting steps",
            text="Waiting: for a time, a signal, a subtask or a place; these hold no worker.",
            queries=(
                Query(_gauge("running"), "running {{stepwire_queue}}"),
                Query(_gauge("waiting"), "waiting {{stepwire_queue}}"),
            ),
        ),
        Panel(
            title="Paused queues",
            text="1 while paused: nothing of it starts until `stepwire queues resume`.",
            queries=_by_queue("paused"),
            most=1,
        ),
    ),
)

WORKERS: Final = Row(
    "Workers",
    (
        Panel(
            title="Workers that are there and wanted",
            text="Wanted: as many as would drain the backlog in the target time; KEDA is told. "
            "Wanted above there for long: the autoscaler is at its bound, or has no nodes.",
            queries=(
                Query(_gauge("workers"), "there {{stepwire_queue}}"),
                Query(_gauge("workers_wanted"), "wanted {{stepwire_queue}}"),
            ),
        ),
        Panel(
            title="Slots in use",
            text="Share of each worker's slots. At 1 with processor to spare: raise "
            "STEPWIRE_WORKER_SLOTS; at 1 with none: more workers.",
            queries=(
                Query(
                    "sum by (instance) (stepwire_worker_slots_used) "
                    "/ sum by (instance) (stepwire_worker_slots)",
                    "{{instance}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            title="Time that an attempt holds its slot",
            text="Mean by queue, claim and settlement included.",
            queries=_by_queue("service_time_seconds"),
            unit="s",
        ),
        Panel(
            title="Duration of attempts, p95, by kind",
            text="One kind slower than before: look at what it calls (models, vectors, HTTP).",
            queries=(
                Query(
                    quantile(0.95, STEPS, by="stepwire_step_kind"),
                    "{{stepwire_step_kind}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Ends of attempts",
            text="By what came of them; `failed` is also what is tried again.",
            queries=(Query(total(f"{STEPS}_count", by="stepwire_result"), "{{stepwire_result}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            title="Share of attempts that are made again",
            text="Many: a dependency is ill, and retries hide it. docs/runbooks/many-retries.md",
            queries=(
                Query(
                    f"{total('stepwire_executor_steps_retried_total')} / {total(ENDS)}",
                    "made again",
                ),
                Query(
                    f"{total(ENDS, _FAILED)} / {total(ENDS)}",
                    "failed",
                ),
            ),
            unit="percentunit",
        ),
    ),
)

RECORD: Final = Row(
    "What keeps the record moving",
    (
        Panel(
            title="Attempts lost with their worker",
            text="Its lease ran out: it died, or was cut off. A few with each deployment that "
            "kills; all the time: workers run out of memory. docs/runbooks/leases-lost.md",
            queries=(
                Query(
                    'sum(increase(stepwire_executor_steps_swept_total{stepwire_cause="session"}'
                    "[$__rate_interval]))",
                    "lost",
                ),
            ),
        ),
        Panel(
            title="Steps woken by sweeps",
            text="`republish`: messages that were lost or late; many of them: RabbitMQ loses, or "
            "workers throw away. `due` is the clock, and normal.",
            queries=(
                Query(
                    total("stepwire_executor_steps_swept_total", by="stepwire_cause"),
                    "{{stepwire_cause}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Sweeps",
            text="None done: lost steps are not found. docs/runbooks/sweeper-still.md",
            queries=(
                Query(
                    total("stepwire_executor_sweeps_total", by="stepwire_result"),
                    "{{stepwire_result}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Timers late",
            text="For how long a wait was over that the last sweep has left.",
            queries=(Query("max(stepwire_executor_timer_lag_seconds)", "late"),),
            unit="s",
        ),
        Panel(
            title="Delay of notices, p95",
            text="To parents of subtasks, webhooks and handlers, from the commit. No data until "
            "there has been one. docs/runbooks/notices-late.md",
            queries=(
                Query(
                    quantile(0.95, "stepwire_executor_notice_delay_seconds", by="stepwire_cause"),
                    "{{stepwire_cause}}",
                ),
                Query(
                    total("stepwire_executor_notices_postponed_total", by="stepwire_cause"),
                    "postponed per s {{stepwire_cause}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Schedules",
            text="Firings, by what came of them, and how late. No data without schedules.",
            queries=(
                Query(
                    total("stepwire_executor_schedule_runs_total", by="stepwire_result"),
                    "{{stepwire_result}} per s",
                ),
                Query(mean("stepwire_executor_schedule_delay_seconds"), "mean delay in s"),
            ),
        ),
        Panel(
            title="Claims that came too late",
            text="Share of the steps that messages named and another worker had by then. Many: the "
            "same step is announced more than once.",
            queries=(
                Query(
                    f"{total(_CLAIMS, _PASSED_OVER)} / {total(_CLAIMS)}",
                    "passed over",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            title="Events for subscriptions",
            text="By what came of them. No data without subscriptions.",
            queries=(
                Query(
                    total("stepwire_executor_subscription_events_total", by="stepwire_result"),
                    "{{stepwire_result}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Time to accept a task",
            text="CreateTask: the commit is in it. Slow: Postgres' disk, or its pool.",
            queries=tuple(
                Query(*each)
                for each in quantiles(
                    "rpc_server_call_duration_seconds",
                    'rpc_method="stepwire.api.executor.v1.ExecutorService/CreateTask"',
                )
            ),
            unit="s",
        ),
    ),
)

BOARD: Final = Board(
    uid="stepwire-queues",
    title="Stepwire / Queues and workers",
    text="What waits and for how long, whether workers are enough, and what was lost on the way.",
    rows=(WAITING, WORKERS, RECORD),
    variables=(Variable("queue", "Queue", "stepwire_queue_ready", "stepwire_queue"),),
    traces=(
        Operation("Traces of steps", "worker"),
        Operation("Traces of the executor", "executor"),
    ),
)
