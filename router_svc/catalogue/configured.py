"""Puts the catalogue together from settings, and finds the keys that it names."""

import logging
from collections.abc import Mapping

from pydantic import ValidationError

from router_svc.catalogue.file import DEFAULT_SOURCE, CatalogueError, check, load, load_default
from router_svc.catalogue.models import Catalogue, Model, OpenAIProvider
from router_svc.settings import ENV_PREFIX, RouterSettings

_logger = logging.getLogger(__name__)

OPENAI_BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = f"{ENV_PREFIX}OPENAI_API_KEY"
ADDED_NAME = "openai"


def load_catalogue(settings: RouterSettings) -> Catalogue:
    """Returns the catalogue that `settings` ask for.

    Raises:
        CatalogueError: The file is faulty, or `openai_*` settings are given beside a
            file, where they would have no effect.
    """
    path = settings.catalogue_path
    if path is not None:
        if settings.openai_model or settings.openai_base_url:
            problem = (
                f"{ENV_PREFIX}OPENAI_MODEL and {ENV_PREFIX}OPENAI_BASE_URL add to the default "
                "catalogue only: unset them, and write the model into the file"
            )
            raise CatalogueError(str(path), [problem])
        return load(path)
    catalogue = load_default()
    if settings.openai_model:
        added = Catalogue(models=(*catalogue.models, _added_model(settings)))
        return check(added, source=DEFAULT_SOURCE)
    return catalogue


def must_ask(settings: RouterSettings) -> bool:
    """Tells whether an endpoint is given, and it must be asked which model it serves."""
    given = bool(settings.openai_base_url or settings.openai_api_key)
    return given and not settings.openai_model and settings.catalogue_path is None


def openai_base_url(settings: RouterSettings) -> str:
    """Returns the root of the API that the `openai_*` settings name."""
    return settings.openai_base_url or OPENAI_BASE_URL


def find_keys(
    catalogue: Catalogue, settings: RouterSettings, environment: Mapping[str, str]
) -> dict[str, str]:
    """Returns the API key of each model that has one, by the model's name.

    Raises:
        CatalogueError: A variable that the catalogue names is not set.
    """
    known = dict(environment)
    if settings.openai_api_key is not None:
        known[KEY_VARIABLE] = settings.openai_api_key.get_secret_value()
    keys: dict[str, str] = {}
    problems = []
    for index, model in enumerate(catalogue.models):
        provider = model.provider
        if not isinstance(provider, OpenAIProvider) or provider.api_key_env is None:
            continue
        key = known.get(provider.api_key_env, "")
        if key:
            keys[model.name] = key
        else:
            problems.append(
                f"models[{index}] ({model.name}): provider.api_key_env: "
                f"the environment variable {provider.api_key_env} is not set"
            )
    if problems:
        raise CatalogueError(str(settings.catalogue_path or DEFAULT_SOURCE), problems)
    return keys


def _added_model(settings: RouterSettings) -> Model:
    prices = (
        settings.openai_input_usd_per_million_tokens,
        settings.openai_output_usd_per_million_tokens,
    )
    if not any(prices):
        _logger.warning(
            "the model %s has no prices and counts as free: set %sOPENAI_INPUT_USD_PER_MILLION_"
            "TOKENS and %sOPENAI_OUTPUT_USD_PER_MILLION_TOKENS",
            settings.openai_model,
            ENV_PREFIX,
            ENV_PREFIX,
        )
    base_url = openai_base_url(settings)
    try:
        return Model(
            name=ADDED_NAME,
            provider=OpenAIProvider(
                kind="openai",
                base_url=base_url,
                api_key_env=KEY_VARIABLE if settings.openai_api_key else None,
                model=settings.openai_model,
                token_limit_field=(
                    "max_completion_tokens" if base_url == OPENAI_BASE_URL else "max_tokens"
                ),
            ),
            context_window=settings.openai_context_window,
            max_output_tokens=settings.openai_max_output_tokens,
            quality=settings.openai_quality,
            capabilities=frozenset({"grounding", "reasoning"}),
            input_usd_per_million_tokens=prices[0],
            output_usd_per_million_tokens=prices[1],
        )
    except ValidationError as error:
        problems = [
            f"{ENV_PREFIX}OPENAI_{str(fault['loc'][-1]).upper()}: {fault['msg']}"
            if fault["loc"]
            else f"{ENV_PREFIX}OPENAI_*: {fault['msg']}"
            for fault in error.errors()
        ]
        raise CatalogueError("of the settings", problems) from error
