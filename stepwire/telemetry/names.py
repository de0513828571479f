"""Names of spans' attributes and of metrics, so that code holds no string literals.

OpenTelemetry's semantic conventions where they have a name, `stepwire.*` elsewhere.
Attributes of metrics must have few values: never ids, never free text.
"""

from typing import Final

# Attributes of calls (semantic conventions, rpc).
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS_CODE: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"
RPC_SYSTEM_GRPC: Final = "grpc"
RPC_SYSTEM_HTTP: Final = "http"

# Metrics of calls.
RPC_SERVER_DURATION: Final = "rpc.server.call.duration"
RPC_CLIENT_DURATION: Final = "rpc.client.call.duration"
RPC_SERVER_ACTIVE_CALLS: Final = "stepwire.rpc.server.active_calls"
RPC_STREAMS_RESPONSES: Final = "stepwire.rpc.streams_responses"

# Metrics of pools of connections (semantic conventions, db).
DB_CONNECTIONS: Final = "db.client.connection.count"
DB_CONNECTIONS_MAX: Final = "db.client.connection.max"
DB_POOL: Final = "db.client.connection.pool.name"
DB_CONNECTION_STATE: Final = "db.client.connection.state"

# Upper bounds in seconds. The conventions begin at 5 ms; our calls often take less.
RPC_DURATION_BUCKETS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)

# Attributes of spans and log lines.
REQUEST_ID: Final = "stepwire.request_id"
TENANT_ID: Final = "stepwire.tenant_id"
TASK_ID: Final = "stepwire.task_id"
STEP_ID: Final = "stepwire.step_id"
STEP_NAME: Final = "stepwire.step_name"
STEP_KIND: Final = "stepwire.step_kind"
ATTEMPT: Final = "stepwire.attempt"
QUEUE: Final = "stepwire.queue"
WORKFLOW: Final = "stepwire.workflow"
REASON: Final = "stepwire.reason"

# Attributes of the process (semantic conventions, service).
SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"

# Attributes and metrics of the executor and its workers.
CAUSE: Final = "stepwire.cause"
RESULT: Final = "stepwire.result"
TASKS_ACCEPTED: Final = "stepwire.executor.tasks_accepted"
STEPS_SWEPT: Final = "stepwire.executor.steps_swept"
SWEEPS: Final = "stepwire.executor.sweeps"
TIMER_LAG: Final = "stepwire.executor.timer_lag"
TASK_DURATION: Final = "stepwire.executor.task.duration"
STEPS_RETRIED: Final = "stepwire.executor.steps_retried"
SCHEDULE_RUNS: Final = "stepwire.executor.schedule_runs"
SCHEDULE_DELAY: Final = "stepwire.executor.schedule.delay"
NOTICES_POSTPONED: Final = "stepwire.executor.notices_postponed"
NOTICE_DELAY: Final = "stepwire.executor.notice.delay"
SUBSCRIPTION_EVENTS: Final = "stepwire.executor.subscription_events"
STEPS_CLAIMED: Final = "stepwire.worker.steps_claimed"
STEP_DURATION: Final = "stepwire.worker.step.duration"
STEP_WAIT: Final = "stepwire.worker.step.wait"
WORKER_SLOTS_USED: Final = "stepwire.worker.slots_used"
WORKER_SLOTS: Final = "stepwire.worker.slots"
QUEUE_READY: Final = "stepwire.queue.ready"
QUEUE_RUNNING: Final = "stepwire.queue.running"
QUEUE_WAITING: Final = "stepwire.queue.waiting"
QUEUE_OLDEST_READY: Final = "stepwire.queue.oldest_ready"
QUEUE_TIME_TO_START: Final = "stepwire.queue.time_to_start"
QUEUE_SERVICE_TIME: Final = "stepwire.queue.service_time"
QUEUE_ARRIVAL_RATE: Final = "stepwire.queue.arrival_rate"
QUEUE_COMPLETION_RATE: Final = "stepwire.queue.completion_rate"
QUEUE_FAILURE_RATE: Final = "stepwire.queue.failure_rate"
QUEUE_WORKERS: Final = "stepwire.queue.workers"
QUEUE_SLOTS: Final = "stepwire.queue.slots"
QUEUE_SLOTS_USED: Final = "stepwire.queue.slots_used"
QUEUE_WORKERS_WANTED: Final = "stepwire.queue.workers_wanted"
QUEUE_PAUSED: Final = "stepwire.queue.paused"
STEP_DURATION_BUCKETS: Final = (*RPC_DURATION_BUCKETS, 120.0, 300.0, 900.0, 3600.0)
# Tasks take longer than their steps; nobody asks which part of a millisecond.
TASK_DURATION_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0),
)
