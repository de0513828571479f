"""The router's settings, read once at start from `STEPWIRE_ROUTER_*`."""

from decimal import Decimal
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from stepwire.settings import MEBIBYTE, ServiceSettings

ENV_PREFIX = "STEPWIRE_ROUTER_"


class RouterSettings(ServiceSettings):
    """Where the router listens, which models it has, and where model_svc is."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True)

    port: int = Field(
        default=50052,
        ge=0,
        le=65535,
        description="Port of the gRPC server; 0 takes a free one.",
    )
    http_port: int = Field(
        default=50062,
        ge=0,
        le=65535,
        description="Port of the OpenAI-compatible HTTP server; 0 takes a free one.",
    )
    http_max_request_bytes: int = Field(
        default=16 * MEBIBYTE,
        ge=1024,
        description="Largest request that the OpenAI-compatible HTTP server takes.",
    )
    model_target: str = Field(
        default="127.0.0.1:50054",
        description="Address of model_svc, which the extractive models need.",
    )
    vector_target: str = Field(
        default="127.0.0.1:50053",
        description="Address of vector_svc, which finds kept answers by their meaning; empty means "
        "that they are found by equal requests only.",
    )
    postgres_url: SecretStr = Field(
        default=SecretStr(""),
        description="Secret. Database of the service, as postgresql://user@host:port/name. Empty "
        "keeps no record: nothing is learnt, no outcome can be reported, there are no budgets, "
        "usage is not written down, and breakers, rates and concurrency are not shared.",
    )
    postgres_max_connections: int = Field(
        default=8,
        ge=2,
        description="Most connections to Postgres, beside one on which others are listened to.",
    )
    learning_seconds: float = Field(
        default=30,
        gt=0,
        description="How often it is looked whether there is enough to learn from, and which "
        "predictor is in use.",
    )
    learning_outcomes: int = Field(
        default=100,
        ge=1,
        description="Outcomes reported since the last training that make another worth while.",
    )
    decision_days: float = Field(
        default=1, gt=0, description="How long a decision waits for the report of its outcome."
    )
    max_budgets: int = Field(default=200, ge=1, description="Most budgets of one tenant.")
    budget_lease_seconds: float = Field(
        default=30,
        ge=1,
        description="For how long an instance that gives no sign of life is taken to be alive. "
        "After that, the calls that it had under way are charged at the most that they can have "
        "cost.",
    )
    slot_lease_seconds: float = Field(
        default=10,
        ge=1,
        description="For how long an instance begins calls of models with a `concurrency` after "
        "its last sign of life. What an instance held that has died is free for others after that, "
        "a quarter of it, the model's `timeout_seconds`, and a second more.",
    )
    usage_days: float = Field(
        default=90,
        gt=0,
        description="How long what each try used is kept; sums by the hour are kept for 800 days.",
    )
    outcome_days: float = Field(default=90, gt=0, description="How long outcomes are learnt from.")
    catalogue_path: Path | None = Field(
        default=None,
        description="YAML file with the catalogue; unset means the one that comes with the "
        "package, and the model of the `openai_*` settings if there is one.",
    )
    catalogue_reload_seconds: float = Field(
        default=2,
        ge=0,
        description="How often the catalogue file is read again; a changed one takes effect "
        "without a restart, a faulty one is refused and the earlier one kept. 0 reads it once.",
    )
    embedding_deadline_seconds: float = Field(
        default=0.03,
        ge=0,
        description="Longest wait of a decision for its request's meaning, which model_svc "
        "gives; a decision that cannot have it in time goes by the text's form alone. 0 never "
        "asks.",
    )
    exploration: float = Field(
        default=0,
        ge=0,
        le=0.5,
        description="Share of decisions that draw a model at random among those that may "
        "answer, so that the router learns how they do. 0 never draws.",
    )
    sufficient_quality: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="Predicted quality that is enough for a request that asks for none, once "
        "qualities are learnt from outcomes.",
    )
    openai_base_url: str = Field(
        default="",
        description="Root of an OpenAI-compatible API, such as `http://127.0.0.1:8000/v1`, to add "
        "a model of it to the default catalogue as `openai`; empty means OpenAI's own when a key "
        "or a model is set.",
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        description="Secret. Key of that API; unset for one that asks for none. A catalogue file "
        "may name STEPWIRE_ROUTER_OPENAI_API_KEY in its `api_key_env`.",
    )
    openai_model: str = Field(
        default="",
        description="That API's name of the model; empty means the one that it serves, and the "
        "start is refused when it serves several.",
    )
    openai_context_window: int = Field(
        default=128_000,
        ge=2,
        description="Tokens that request and answer of that model may have together.",
    )
    openai_max_output_tokens: int = Field(
        default=4_096, ge=1, description="Longest answer of that model, in tokens."
    )
    openai_quality: float = Field(
        default=0.8, ge=0, le=1, description="Quality of that model, on the catalogue's scale."
    )
    openai_input_usd_per_million_tokens: Decimal = Field(
        default=Decimal(0), ge=0, description="Price of a million input tokens, in US dollars."
    )
    openai_output_usd_per_million_tokens: Decimal = Field(
        default=Decimal(0), ge=0, description="Price of a million output tokens, in US dollars."
    )
    max_attempts: int = Field(
        default=6,
        ge=1,
        le=50,
        description="Most calls of providers for one request, those of all models together.",
    )
    retry_patience_seconds: float = Field(
        default=0.5,
        ge=0,
        description="Longest wait for the same model after a failure, while others could be tried.",
    )
    retry_longest_wait_seconds: float = Field(
        default=20.0,
        ge=0,
        description="Longest wait for a model when no other is left to be tried.",
    )
    hedge_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of all calls beside which a second one may be made when they take "
        "longer than 19 of 20 did lately; the first answer wins. 0 makes none.",
    )
    breaker_failures: int = Field(
        default=3,
        ge=1,
        description="Failures in a row, with no success between, that open a breaker.",
    )
    breaker_credit_seconds: float = Field(
        default=600.0,
        gt=0,
        description="How long a key without credit is left alone the first time; doubled each "
        "time in a row, up to 2 hours.",
    )
    breaker_share_seconds: float = Field(
        default=1.0,
        gt=0,
        description="How often instances look which breakers others have opened or closed.",
    )
    cache_ttl_seconds: float = Field(
        default=3_600,
        gt=0,
        description="For how long answers are kept and given again, where requests allow it.",
    )
    cache_memory_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=0,
        description="Most memory of kept answers; those used longest ago go first. 0 keeps none "
        "in memory.",
    )
    cache_answers: int = Field(
        default=1_000_000,
        ge=0,
        description="Most answers kept in the database, of all tenants; those that expire first "
        "go first.",
    )
    cache_similarity: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Cosine of two questions' meanings from which on the answer to one may be "
        "given to the other, if nothing differs that counts: numbers, names, dates, units, "
        "negations, words.",
    )
    cache_deadline_seconds: float = Field(
        default=0.25,
        gt=0,
        description="Longest wait of a request for a part of the cache: the database, or the "
        "question's meaning and those near it. A request goes on without what comes later.",
    )
    cache_redis_url: SecretStr = Field(
        default=SecretStr(""),
        description="Secret. A Redis or Valkey where kept answers are looked for before the "
        "database, as redis://user:password@host:port/number, or rediss:// with TLS. Needs the "
        "extra `redis` and STEPWIRE_ROUTER_POSTGRES_URL. Empty means none.",
    )
    cache_redis_deadline_seconds: float = Field(
        default=0.05,
        gt=0,
        description="Longest wait of a request for Redis. A Redis that fails or is later than "
        "that is left alone for a second.",
    )
    record_prompts: bool = Field(
        default=False,
        description="Whether traces hold what was asked and answered.",
    )
