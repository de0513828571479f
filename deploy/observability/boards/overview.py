"""Is it well? The first board to open."""

from typing import Final

from deploy.observability.boards.board import Board, Limits, Operation, Panel, Query, Row
from deploy.observability.boards.expressions import quantile, quantiles, total

TASKS: Final = "stepwire_executor_task_duration_seconds"
CALLS: Final = "rpc_server_call_duration_seconds"
_ENDED: Final = 'stepwire_result!="cancelled"'

LEVELS: Final = Row(
    "Service levels",
    (
        Panel(
            title="Alerts",
            text="What fires now; each alert's runbook_url is a page of docs/runbooks.",
            queries=(
                Query(
                    'count by (alertname, severity) (ALERTS{alertstate="firing", '
                    'alertname=~"Stepwire.*"}) or vector(0)',
                    "{{severity}} {{alertname}}",
                ),
            ),
            kind="stat",
            width=6,
            height=5,
            limits=Limits(1, 1),
        ),
        Panel(
            title="Calls that succeed, last hour",
            text="By service; 99.9 % are promised. Below: look at the errors under this row, then "
            "at the traces of the service. docs/runbooks/calls-fail.md",
            queries=(Query("1 - stepwire:calls_failed_ratio:rate1h", "{{component}}"),),
            unit="percentunit",
            kind="stat",
            width=6,
            height=5,
            limits=Limits(0.9995, 0.999, falling=True),
        ),
        Panel(
            title="Tasks that succeed, last hour",
            text="Of those that ended and were not cancelled; 99 % are promised. Below: `stepwire "
            "queues failed` counts the reasons. docs/runbooks/tasks-fail.md",
            queries=(Query("1 - stepwire:tasks_failed_ratio:rate1h"),),
            unit="percentunit",
            kind="stat",
            width=6,
            height=5,
            limits=Limits(0.995, 0.99, falling=True),
        ),
        Panel(
            title="Steps that start within 10 s, last hour",
            text="By queue; 99 % are promised. Below: more workers, or a lower inflow; see the "
            "board Queues and workers. docs/runbooks/steps-start-late.md",
            queries=(Query("1 - stepwire:steps_late_ratio:rate1h", "{{stepwire_queue}}"),),
            unit="percentunit",
            kind="stat",
            width=6,
            height=5,
            limits=Limits(0.995, 0.99, falling=True),
        ),
    ),
)

TRAFFIC: Final = Row(
    "Throughput",
    (
        Panel(
            title="Tasks",
            text="Accepted, and ended by how. Accepted above ended for long: a backlog grows.",
            queries=(
                Query(total("stepwire_executor_tasks_accepted_total"), "accepted"),
                Query(total(f"{TASKS}_count", by="stepwire_result"), "{{stepwire_result}}"),
            ),
            unit="ops",
        ),
        Panel(
            title="Time of tasks, acceptance to end",
            text="With all waits: in queues, for times, for signals. Longer with the same steps: "
            "look at the wait in queues first.",
            queries=tuple(Query(*each) for each in quantiles(TASKS, _ENDED)),
            unit="s",
        ),
        Panel(
            title="Attempts of steps by kind",
            text="What workers get done.",
            queries=(
                Query(
                    total("stepwire_worker_step_duration_seconds_count", by="stepwire_step_kind"),
                    "{{stepwire_step_kind}}",
                ),
            ),
            unit="ops",
            stacked=True,
        ),
    ),
)

ERRORS: Final = Row(
    "Errors",
    (
        Panel(
            title="Calls that failed by fault of the service",
            text="By service and code. UNAVAILABLE: something that it needs is away; INTERNAL: a "
            "fault in it, told in its log; DEADLINE_EXCEEDED: it was slower than it may.",
            queries=(
                Query(
                    total(
                        f"{CALLS}_count", 'error_type!=""', by="component, rpc_response_status_code"
                    ),
                    "{{component}} {{rpc_response_status_code}}",
                ),
            ),
            unit="ops",
            width=12,
        ),
        Panel(
            title="Calls refused",
            text="RESOURCE_EXHAUSTED: a limit was reached, of load, of money or of a provider; the "
            "reason is in the answer and the log.",
            queries=(
                Query(
                    total(
                        f"{CALLS}_count",
                        'rpc_response_status_code="RESOURCE_EXHAUSTED"',
                        by="component, rpc_method",
                    ),
                    "{{component}} {{rpc_method}}",
                ),
            ),
            unit="ops",
            width=12,
        ),
        Panel(
            title="Slowest methods, p99",
            text="The ten slowest; streams last as long as somebody watches.",
            queries=(
                Query(f"topk(10, {quantile(0.99, CALLS, by='rpc_method')})", "{{rpc_method}}"),
            ),
            unit="s",
            width=12,
        ),
        Panel(
            title="Calls to other services that failed",
            text="As those who call see them: also what never arrived.",
            queries=(
                Query(
                    total(
                        "rpc_client_call_duration_seconds_count",
                        'error_type!=""',
                        by="component, rpc_method, error_type",
                    ),
                    "{{component}} to {{rpc_method}}: {{error_type}}",
                ),
            ),
            unit="ops",
            width=12,
        ),
    ),
)

SATURATION: Final = Row(
    "Saturation",
    (
        Panel(
            title="Processes that answer scrapes",
            text="0 is a process that is gone or hangs. docs/runbooks/target-down.md",
            queries=(
                Query(
                    'min by (component, instance) (up{component!=""})', "{{component}} {{instance}}"
                ),
            ),
            width=6,
            most=1,
        ),
        Panel(
            title="Processor",
            text="Cores by process. A service that stands at 1 core is at its end: it runs one "
            "event loop; start another instance.",
            queries=(
                Query(
                    total("process_cpu_seconds_total", by="component, instance"),
                    "{{component}} {{instance}}",
                ),
            ),
            width=6,
        ),
        Panel(
            title="Memory",
            text="Resident, by process.",
            queries=(
                Query(
                    "sum by (component, instance) (process_resident_memory_bytes)",
                    "{{component}} {{instance}}",
                ),
            ),
            unit="bytes",
            width=6,
        ),
        Panel(
            title="Connections to Postgres in use",
            text="Of those that the pool may have. Near 1, calls wait for one: look for long "
            "statements, then raise the pool's size. docs/runbooks/pool-used-up.md",
            queries=(
                Query(
                    "sum by (component, instance, db_client_connection_pool_name) "
                    '(db_client_connection_count{db_client_connection_state="used"}) '
                    "/ sum by (component, instance, db_client_connection_pool_name) "
                    "(db_client_connection_max)",
                    "{{db_client_connection_pool_name}} {{instance}}",
                ),
            ),
            unit="percentunit",
            width=6,
            most=1,
        ),
        Panel(
            title="Calls under way",
            text="By service, streams apart. A service refuses with OVERLOADED at its bound.",
            queries=(
                Query(
                    "sum by (component, stepwire_rpc_streams_responses) "
                    "(stepwire_rpc_server_active_calls)",
                    "{{component}} streams={{stepwire_rpc_streams_responses}}",
                ),
            ),
            width=12,
        ),
        Panel(
            title="Versions that run",
            text="More than one for long: a deployment stands still.",
            queries=(
                Query(
                    "count by (service_name, service_version) (target_info)",
                    "{{service_name}} {{service_version}}",
                ),
            ),
            width=12,
        ),
    ),
)

BOARD: Final = Board(
    uid="stepwire-overview",
    title="Stepwire / Overview",
    text="Are the promises kept, what goes through, what fails, and what is full.",
    rows=(LEVELS, TRAFFIC, ERRORS, SATURATION),
    traces=(
        Operation("Traces of tasks", "gateway"),
        Operation("Traces of steps", "worker"),
    ),
)
