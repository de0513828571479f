"""The router's settings, read once at start from `STEPWIRE_ROUTER_*`."""

from decimal import Decimal
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from stepwire.settings import ServiceSettings

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
    model_target: str = Field(
        default="127.0.0.1:50054",
        description="Address of model_svc, which the extractive models need.",
    )
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
