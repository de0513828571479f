"""What is public, who answers it, and how its methods behave.

The one place that names the services behind the gateway: Envoy's routes, the
transcoder, keys, health and reflection all follow from it.
"""

from collections.abc import Mapping

from gateway.public import Behaviour, PublicPath, PublicService, Upstream

HEALTH = "grpc.health.v1.Health"
HEALTH_PATH = "/healthz"
"""Where a gateway tells of its own health, and a service with HTTP of its."""
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
    # Queues and workers are shared. Failed steps are a tenant's own.
    admin=frozenset(
        {
            *("PauseQueue", "ResumeQueue", "DrainQueue", "DrainWorker"),
            *("SetTenantWeight", "ListTenantWeights"),
        }
    ),
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
    admin=frozenset({"TrainPredictor", "ActivatePredictor"}),
)
BREAKER_SERVICE = PublicService(
    name="stepwire.api.router.v1.BreakerService",
    upstream=Upstream.ROUTER,
    methods={"ListBreakers": Behaviour.READ},
    admin=frozenset({"OpenBreaker", "ResetBreaker"}),
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
    # Whom a budget binds must not be able to raise it.
    admin=frozenset({"CreateBudget", "UpdateBudget", "DeleteBudget"}),
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
    admin=frozenset({"RepositoryModelLoad", "RepositoryModelUnload"}),
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
    admin=frozenset({"LoadModel", "UnloadModel"}),
)
KEY_SERVICE = PublicService(
    name="stepwire.api.gateway.v1.KeyService",
    upstream=Upstream.COMPANION,
    methods={"ListKeys": Behaviour.READ},
    admin=frozenset({"CreateKey", "ListKeys", "RevokeKey", "RotateKey"}),
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
    KEY_SERVICE,
    HEALTH_SERVICE,
    REFLECTION_SERVICE,
    REFLECTION_ALPHA_SERVICE,
)


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

COMPANION_HTTP = "companion-http"
"""The cluster of the server that says whether a call may pass."""

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
