"""Settings of the executor and of its workers."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from stepwire.settings import DependentSettings, ServiceSettings

MEBIBYTE = 1024 * 1024


class RecordSettings(BaseSettings):
    """What the executor and its workers must agree on."""

    model_config = SettingsConfigDict(frozen=True)

    postgres_url: str = Field(
        default="postgresql://postgres@127.0.0.1:54329/stepwire",
        description="Database of the record, as postgresql://user@host:port/name.",
    )
    rabbitmq_url: str = Field(
        default="",
        description="RabbitMQ, as amqp://user:password@host:port/vhost. Empty: no RabbitMQ;"
        " the executor then runs one worker inside its own process.",
    )
    mq_namespace: str = Field(
        default="stepwire",
        description="Prefix of all queues and exchanges.",
    )
    queues: tuple[str, ...] = Field(
        default=("default", "llm", "gpu"),
        description="Queues in which steps can wait; for a worker, those it serves. JSON list.",
    )
    max_payload_bytes: int = Field(
        default=MEBIBYTE,
        ge=1024,
        description="Largest input of a task and largest output of a step.",
    )
    inline_payload_bytes: int = Field(
        default=16 * 1024,
        ge=0,
        description="Inputs and outputs larger than this are kept apart from the rows of tasks"
        " and steps.",
    )
    max_bundle: int = Field(
        default=64,
        ge=1,
        description="Most steps that one message carries.",
    )
    max_published_steps: int = Field(
        default=1000,
        ge=8,
        description="Most steps of a queue that wait in RabbitMQ, where they go in the order in"
        " which they were sent. More wait in the record, and are sent in order of priority and"
        " in fair shares between tenants. Fewer are used while workers are slow.",
    )
    republish_after_seconds: float = Field(
        default=5,
        gt=0,
        description="How long a step may stay ready before its message is sent again, unless its"
        " queue is crowded; doubles each time.",
    )
    stats_seconds: float = Field(
        default=5,
        gt=0,
        description="Time between two additions of this process's counts to those of the"
        " queues, from which rates are told.",
    )

    @property
    def republish_after(self) -> timedelta:
        """`republish_after_seconds` as a span of time."""
        return timedelta(seconds=self.republish_after_seconds)


class WorkerSettings(RecordSettings, DependentSettings):
    """Settings of a worker process."""

    model_config = SettingsConfigDict(env_prefix="STEPWIRE_WORKER_", frozen=True)

    name: str = Field(
        default="",
        description="Name of the worker in logs and sessions. Empty: host and process id.",
    )
    pool_size: int = Field(
        default=4, ge=1, description="Connections to Postgres, besides the lease's own."
    )
    slots: int = Field(
        default=2000,
        ge=1,
        description="Steps that may be in flight at once; when they are taken, messages wait.",
    )
    exit_when_idle_seconds: float = Field(
        default=0,
        ge=0,
        description="After how long without a step in flight the process ends by itself, with exit"
        " code 0: for jobs and functions that take what waits. 0: it stays.",
    )
    python_threads: int = Field(
        default=8,
        ge=1,
        description="Threads for step functions that are not coroutine functions.",
    )
    lease_seconds: float = Field(
        default=6,
        gt=0,
        description="How long the worker's steps stay its own after its last sign of life.",
    )
    renew_seconds: float = Field(
        default=2, gt=0, description="Time between two renewals of the lease."
    )
    lease_margin_share: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Part of the lease, at its end, in which the worker no longer counts on it:"
        " time to stop its steps before others may take them.",
    )
    max_losses: int = Field(
        default=5,
        ge=0,
        description="How often a step is started again after its worker died; one more death"
        " fails it with STEP_WORKER_LOST.",
    )
    reconcile_seconds: float = Field(
        default=5,
        gt=0,
        description="Time between two comparisons of what the record says this worker runs"
        " with what it does run.",
    )
    reconcile_age_seconds: float = Field(
        default=10,
        gt=0,
        description="How long a step must have run, by the record, before that comparison may"
        " give it back: the claim of a younger one may still be being answered.",
    )
    step_modules: tuple[str, ...] = Field(
        default=("stepwire.sdk.library",),
        description="Python modules that register step functions. JSON list.",
    )
    router_target: str = Field(
        default="127.0.0.1:50052", description="Address of the router service."
    )
    vector_target: str = Field(
        default="127.0.0.1:50053", description="Address of the vector service."
    )
    model_target: str = Field(
        default="127.0.0.1:50054", description="Address of the model service."
    )
    function_wait_seconds: float = Field(
        default=600,
        ge=0,
        description="How long a step waits for a worker that knows its function, as while newer"
        " workers are being started, before it fails with FUNCTION_NOT_FOUND.",
    )
    max_items: int = Field(default=10_000, ge=1, description="Most items of a for_each step.")
    http_allow_private: bool = Field(
        default=False,
        description="Whether http steps may call addresses that are not public.",
    )
    http_max_response_bytes: int = Field(
        default=MEBIBYTE, ge=1024, description="Largest response that an http step reads."
    )


class ExecutorSettings(RecordSettings, ServiceSettings):
    """Settings of the executor service."""

    model_config = SettingsConfigDict(env_prefix="STEPWIRE_EXECUTOR_", frozen=True)

    port: int = Field(default=50051, ge=0, le=65535, description="Port of the gRPC server.")
    pool_size: int = Field(default=8, ge=1, description="Connections to Postgres.")
    max_steps: int = Field(default=1000, ge=1, description="Most steps of a graph.")
    max_graph_bytes: int = Field(default=MEBIBYTE, ge=1024, description="Largest encoded graph.")
    max_batch_tasks: int = Field(
        default=1000, ge=1, description="Most tasks in one BatchCreateTasks call."
    )
    create_batch: int = Field(
        default=256, ge=1, description="Most calls that share one commit of new tasks."
    )
    create_waiting: int = Field(
        default=10_000,
        ge=1,
        description="Calls that may wait for a commit; one more is refused with OVERLOADED.",
    )
    max_wait_seconds: float = Field(
        default=300, gt=0, description="Longest wait of a WaitTask call."
    )
    recheck_seconds: float = Field(
        default=5,
        gt=0,
        description="How long watchers trust the event bus before they look into the record.",
    )
    sweep_seconds: float = Field(
        default=0.5,
        gt=0,
        description="Longest time between two sweeps for expired sessions, due attempts and"
        " steps that stay ready.",
    )
    max_schedules: int = Field(default=10_000, ge=1, description="Most schedules of one tenant.")
    schedule_min_interval_seconds: float = Field(
        default=10,
        gt=0,
        description="Shortest time between two firings of a schedule; a cron expression that"
        " can fire more often is refused.",
    )
    schedule_sweep_seconds: float = Field(
        default=5,
        gt=0,
        description="Longest time between two looks for schedules that are due. A firing does not"
        " wait for it; what an executor leaves behind that dies does.",
    )
    schedule_batch: int = Field(
        default=100, ge=1, description="Most schedules that one executor takes in hand at once."
    )
    max_subscriptions: int = Field(
        default=100, ge=1, description="Most subscriptions of one tenant."
    )
    max_webhook_calls: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Most calls of one subscription's webhook at a time, over all workers; further"
        " deliveries wait without holding a worker.",
    )
    relay_seconds: float = Field(
        default=1,
        gt=0,
        description="Longest time between two looks for notices. They do not wait for it; what"
        " was not announced, or an executor that dies leaves behind, does.",
    )
    relay_batch: int = Field(
        default=100, ge=1, description="Most notices that an executor takes in hand at once."
    )
    partition_hours: float = Field(
        default=168,
        ge=1 / 60,
        description="Span of time whose tasks share a partition of the record, which is dropped"
        " as a whole.",
    )
    retention_days: float = Field(
        default=30,
        ge=0,
        description="How long a task is kept after it has ended. 0: for ever.",
    )
    retention_sweep_seconds: float = Field(
        default=600,
        gt=0,
        description="Time between two looks for partitions to make and to drop.",
    )
    scaling_drain_seconds: float = Field(
        default=60,
        ge=1,
        description="Time in which the backlog of a queue shall be gone, where a request for"
        " scaling signals names none.",
    )
    scaling_utilisation: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of its slots that a worker is to hold on average, when the number of"
        " workers wanted is worked out.",
    )
