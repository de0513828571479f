"""What is public, who answers it, and how its methods behave.

The one place that names the services behind the gateway: Envoy's routes, the
transcoder, health and reflection all follow from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto


class Upstream(StrEnum):
    """A process behind the gateway; the value names its Envoy cluster."""

    EXECUTOR = auto()
    ROUTER = auto()
    VECTOR = auto()
    MODEL = auto()
    COMPANION = auto()


class Behaviour(Enum):
    """What the gateway may do with a call of a method."""

    WRITE = auto()
    """Changes something: tried again only when it surely reached no service."""
    READ = auto()
    """Changes nothing, so that it may be tried again when a service is unavailable."""
    LONG_POLL = auto()
    """A read that waits for something to happen, for minutes."""
    STREAM = auto()
    """A read that streams for as long as the client listens."""
    WRITE_STREAM = auto()
    """Streams for as long as it takes, and changes something or costs money."""


@dataclass(frozen=True)
class PublicService:
    """A proto service that clients reach through the gateway.

    Attributes:
        name: Its full proto name.
        upstream: The process that answers it.
        methods: Behaviour of its methods; those not named are writes.
        json: Whether its methods are also reached as JSON over HTTP.
        protocol: Whether the service is of gRPC itself (health, reflection) and not
            of Stepwire.
    """

    name: str
    upstream: Upstream
    methods: Mapping[str, Behaviour] = field(default_factory=dict)
    json: bool = True
    protocol: bool = False


HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_ALPHA = "grpc.reflection.v1alpha.ServerReflection"

EXECUTOR_SERVICE = PublicService(
    name="stepwire.api.executor.v1.ExecutorService",
    upstream=Upstream.EXECUTOR,
    methods={
        "GetTask": Behaviour.READ,
        "ListTasks": Behaviour.READ,
        "WaitTask": Behaviour.LONG_POLL,
        "WatchTask": Behaviour.STREAM,
    },
)
WORKFLOW_SERVICE = PublicService(
    name="stepwire.api.executor.v1.WorkflowService",
    upstream=Upstream.EXECUTOR,
    methods={
        "GetWorkflow": Behaviour.READ,
        "ListWorkflows": Behaviour.READ,
        "ListWorkflowVersions": Behaviour.READ,
        "ValidateGraph": Behaviour.READ,
    },
)
SCHEDULE_SERVICE = PublicService(
    name="stepwire.api.executor.v1.ScheduleService",
    upstream=Upstream.EXECUTOR,
    methods={"GetSchedule": Behaviour.READ, "ListSchedules": Behaviour.READ},
)
SUBSCRIPTION_SERVICE = PublicService(
    name="stepwire.api.executor.v1.SubscriptionService",
    upstream=Upstream.EXECUTOR,
    methods={"GetSubscription": Behaviour.READ, "ListSubscriptions": Behaviour.READ},
)
QUEUE_SERVICE = PublicService(
    name="stepwire.api.executor.v1.QueueService",
    upstream=Upstream.EXECUTOR,
    methods={
        "ListQueues": Behaviour.READ,
        "GetQueue": Behaviour.READ,
        # It waits, and may be called again: what is paused stays so.
        "DrainQueue": Behaviour.LONG_POLL,
        "ListWorkers": Behaviour.READ,
        "GetScalingSignals": Behaviour.READ,
        "ListFailedSteps": Behaviour.READ,
        "ListTenantWeights": Behaviour.READ,
    },
)
ROUTER_SERVICE = PublicService(
    name="stepwire.api.router.v1.RouterService",
    upstream=Upstream.ROUTER,
    # A second try of Generate may cost money a second time.
    methods={
        "Decide": Behaviour.READ,
        "ListModels": Behaviour.READ,
        "StreamGenerate": Behaviour.WRITE_STREAM,
    },
)
PREDICTOR_SERVICE = PublicService(
    name="stepwire.api.router.v1.PredictorService",
    upstream=Upstream.ROUTER,
    methods={"ListPredictors": Behaviour.READ},
)
BREAKER_SERVICE = PublicService(
    name="stepwire.api.router.v1.BreakerService",
    upstream=Upstream.ROUTER,
    methods={"ListBreakers": Behaviour.READ},
)
CACHE_SERVICE = PublicService(
    name="stepwire.api.router.v1.CacheService",
    upstream=Upstream.ROUTER,
    methods={"GetCacheStats": Behaviour.READ},
)
BUDGET_SERVICE = PublicService(
    name="stepwire.api.router.v1.BudgetService",
    upstream=Upstream.ROUTER,
    methods={
        "GetBudget": Behaviour.READ,
        "ListBudgets": Behaviour.READ,
        "ListBudgetAccounts": Behaviour.READ,
    },
)
USAGE_SERVICE = PublicService(
    name="stepwire.api.router.v1.UsageService",
    upstream=Upstream.ROUTER,
    methods={"GetUsage": Behaviour.READ},
)
COLLECTION_SERVICE = PublicService(
    name="stepwire.api.vector.v1.CollectionService",
    upstream=Upstream.VECTOR,
    methods={
        "GetCollection": Behaviour.READ,
        "ListCollections": Behaviour.READ,
        "GetCollectionStats": Behaviour.READ,
        "ListAliases": Behaviour.READ,
    },
)
POINT_SERVICE = PublicService(
    name="stepwire.api.vector.v1.PointService",
    upstream=Upstream.VECTOR,
    methods={
        "BulkUpsertPoints": Behaviour.WRITE_STREAM,
        "GetPoints": Behaviour.READ,
        "ScrollPoints": Behaviour.READ,
        "CountPoints": Behaviour.READ,
        "FacetPoints": Behaviour.READ,
    },
)
SEARCH_SERVICE = PublicService(
    name="stepwire.api.vector.v1.SearchService",
    upstream=Upstream.VECTOR,
    methods={
        "SearchPoints": Behaviour.READ,
        "StreamSearchPoints": Behaviour.STREAM,
        "BatchSearchPoints": Behaviour.READ,
        "SearchGroups": Behaviour.READ,
    },
)
MEMORY_SERVICE = PublicService(
    name="stepwire.api.vector.v1.MemoryService",
    upstream=Upstream.VECTOR,
    methods={
        "Recall": Behaviour.READ,
        "ListMemories": Behaviour.READ,
        "ListMemorySpaces": Behaviour.READ,
    },
)
INDEX_SERVICE = PublicService(
    name="stepwire.api.vector.v1.IndexService",
    upstream=Upstream.VECTOR,
    methods={"GetIndexBuild": Behaviour.READ, "ListIndexBuilds": Behaviour.READ},
)
SNAPSHOT_SERVICE = PublicService(
    name="stepwire.api.vector.v1.SnapshotService",
    upstream=Upstream.VECTOR,
    methods={
        "ExportCollection": Behaviour.STREAM,
        "ImportCollection": Behaviour.WRITE_STREAM,
    },
    json=False,
)
MODEL_SERVICE = PublicService(
    name="stepwire.api.model.v1.ModelService",
    upstream=Upstream.MODEL,
    methods={
        "ListTextModels": Behaviour.READ,
        "Tokenize": Behaviour.READ,
        "Embed": Behaviour.READ,
        "Score": Behaviour.READ,
        "Classify": Behaviour.READ,
        "Rerank": Behaviour.READ,
        "Answer": Behaviour.READ,
        "Summarize": Behaviour.READ,
        "Extract": Behaviour.READ,
        # A second try would write another text.
        "Generate": Behaviour.WRITE_STREAM,
    },
)
INFERENCE_SERVICE = PublicService(
    name="inference.GRPCInferenceService",
    upstream=Upstream.MODEL,
    methods={
        "ServerLive": Behaviour.READ,
        "ServerReady": Behaviour.READ,
        "ModelReady": Behaviour.READ,
        "ServerMetadata": Behaviour.READ,
        "ModelMetadata": Behaviour.READ,
        "ModelInfer": Behaviour.READ,
        "ModelStreamInfer": Behaviour.STREAM,
        "ModelConfig": Behaviour.READ,
        "ModelStatistics": Behaviour.READ,
        "RepositoryIndex": Behaviour.READ,
    },
    json=False,
)
INFERENCE_HTTP_SERVICE = PublicService(
    name="stepwire.api.model.v1.OpenInferenceHttpService",
    upstream=Upstream.MODEL,
    methods={
        "GetServer": Behaviour.READ,
        "CheckLive": Behaviour.READ,
        "CheckReady": Behaviour.READ,
        "GetModel": Behaviour.READ,
        "CheckModelReady": Behaviour.READ,
        "GetModelConfig": Behaviour.READ,
        "GetModelStatistics": Behaviour.READ,
        "Infer": Behaviour.READ,
        "ListRepository": Behaviour.READ,
    },
)
HEALTH_SERVICE = PublicService(
    name=HEALTH,
    upstream=Upstream.COMPANION,
    methods={"Check": Behaviour.READ, "List": Behaviour.READ, "Watch": Behaviour.STREAM},
    json=False,
    protocol=True,
)
REFLECTION_SERVICE = PublicService(
    name=REFLECTION,
    upstream=Upstream.COMPANION,
    methods={"ServerReflectionInfo": Behaviour.STREAM},
    json=False,
    protocol=True,
)
REFLECTION_ALPHA_SERVICE = PublicService(
    name=REFLECTION_ALPHA,
    upstream=Upstream.COMPANION,
    methods={"ServerReflectionInfo": Behaviour.STREAM},
    json=False,
    protocol=True,
)

PUBLIC_SERVICES = (
    EXECUTOR_SERVICE,
    WORKFLOW_SERVICE,
    SCHEDULE_SERVICE,
    SUBSCRIPTION_SERVICE,
    QUEUE_SERVICE,
    ROUTER_SERVICE,
    PREDICTOR_SERVICE,
    BREAKER_SERVICE,
    CACHE_SERVICE,
    BUDGET_SERVICE,
    USAGE_SERVICE,
    COLLECTION_SERVICE,
    POINT_SERVICE,
    SEARCH_SERVICE,
    MEMORY_SERVICE,
    INDEX_SERVICE,
    SNAPSHOT_SERVICE,
    MODEL_SERVICE,
    INFERENCE_SERVICE,
    INFERENCE_HTTP_SERVICE,
    HEALTH_SERVICE,
    REFLECTION_SERVICE,
    REFLECTION_ALPHA_SERVICE,
)


@dataclass(frozen=True)
class PublicPath:
    """Paths of HTTP that reach a process as they are: of an API that is not ours.

    Attributes:
        path: The path; one that ends with `/` stands for all that have one more part, and
            are read.
        behaviour: What the gateway may do with a call.
    """

    path: str
    behaviour: Behaviour


OPENAI_PATHS = (
    # A second try may cost money a second time.
    PublicPath("/v1/chat/completions", Behaviour.WRITE_STREAM),
    PublicPath("/v1/embeddings", Behaviour.READ),
    PublicPath("/v1/models", Behaviour.READ),
    PublicPath("/v1/models/", Behaviour.READ),
)
"""What router_svc answers over HTTP, as OpenAI does."""

ROUTER_HTTP = "router-http"
"""The cluster of these paths."""

MESH_SERVICES = tuple(service for service in PUBLIC_SERVICES if not service.protocol)
"""The services of Stepwire, without gRPC's own."""

HEALTH_NAMES: Mapping[Upstream, str] = {
    Upstream.EXECUTOR: EXECUTOR_SERVICE.name,
    Upstream.ROUTER: ROUTER_SERVICE.name,
    Upstream.VECTOR: COLLECTION_SERVICE.name,
    Upstream.MODEL: MODEL_SERVICE.name,
    # Its own, and not "", which speaks of the whole mesh: the companion must stay
    # reachable to tell that another service is down.
    Upstream.COMPANION: HEALTH,
}
"""The service whose health says whether an upstream may get calls."""
