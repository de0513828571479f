"""Puts the catalogue together from settings, and finds the keys that it names."""

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from pydantic import ValidationError

from router_svc.catalogue.faults import CatalogueError
from router_svc.catalogue.file import (
    DEFAULT_SOURCE,
    check,
    default_text,
    load_default,
    parse,
    read_text,
)
from router_svc.catalogue.holder import Snapshot, version_of
from router_svc.catalogue.kinds import Tier
from router_svc.catalogue.models import ESTIMATE, Catalogue, Limits, Model, OpenAIProvider
from router_svc.catalogue.prices import Price
from router_svc.settings import ENV_PREFIX, RouterSettings

_logger = logging.getLogger(__name__)

OPENAI_BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = f"{ENV_PREFIX}OPENAI_API_KEY"
ADDED_NAME = "openai"


class ConfiguredSource:
    """A `Source`: the file that the settings name, or the packaged catalogue.

    Args:
        settings: Which file, and which model is added to the packaged one.
        environment: Has the keys.
        tokenizer: Called with each tokenizer that a model names; raises ValueError when
            it cannot be used.
    """

    def __init__(
        self,
        settings: RouterSettings,
        environment: Mapping[str, str],
        tokenizer: Callable[[str], object],
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._tokenizer = tokenizer
        # Parsing costs milliseconds, which a text that was read before need not.
        self._last: tuple[str, Snapshot] | None = None

    @property
    def name(self) -> str:
        """The file, as the operator knows it."""
        return str(self._settings.catalogue_path or DEFAULT_SOURCE)

    def read(self) -> Snapshot:
        """See `Source`."""
        path = self._settings.catalogue_path
        # Read once: version and models must be of the same text.
        text = default_text() if path is None else read_text(path)
        if self._last is not None and self._last[0] == text:
            return self._last[1]
        catalogue = _catalogue(self._settings, text)
        keys = find_keys(catalogue, self._settings, self._environment)
        if problems := [*self._unusable(catalogue)]:
            raise CatalogueError(self.name, problems)
        snapshot = Snapshot(catalogue, keys, version_of(text, self._settings.openai_model))
        self._last = (text, snapshot)
        return snapshot

    def _unusable(self, catalogue: Catalogue) -> Iterator[str]:
        now = datetime.now(UTC)
        for index, model in enumerate(catalogue.models):
            where = f"models[{index}] ({model.name}): "
            if model.price_at(now) is None:
                yield f"{where}prices: none of them holds yet"
            if model.tokenizer == ESTIMATE:
                continue
            try:
                self._tokenizer(model.tokenizer)
            except ValueError as error:
                yield f"{where}tokenizer: {error}"


def load_catalogue(settings: RouterSettings) -> Catalogue:
    """Returns the catalogue that `settings` ask for.

    Raises:
        CatalogueError: The file is faulty, or `openai_*` settings are given beside a
            file, where they would have no effect.
    """
    path = settings.catalogue_path
    return _catalogue(settings, default_text() if path is None else read_text(path))


def _catalogue(settings: RouterSettings, text: str) -> Catalogue:
    path = settings.catalogue_path
    if path is not None:
        if settings.openai_model or settings.openai_base_url:
            problem = (
                f"{ENV_PREFIX}OPENAI_MODEL and {ENV_PREFIX}OPENAI_BASE_URL add to the default "
                "catalogue only: unset them, and write the model into the file"
            )
            raise CatalogueError(str(path), [problem])
        return parse(text, source=str(path))
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
    """Returns the API keys that the catalogue names, by the name of their variable.

    Raises:
        CatalogueError: A variable that the catalogue names is not set.
    """
    known = dict(environment)
    if settings.openai_api_key is not None:
        known[KEY_VARIABLE] = settings.openai_api_key.get_secret_value()
    keys: dict[str, str] = {}
    problems = []
    for index, model in enumerate(catalogue.models):
        for endpoint in model.endpoints:
            if endpoint.api_key_env is None:
                continue
            key = known.get(endpoint.api_key_env, "").strip()
            keys[endpoint.api_key_env] = key
            if fault := _key_fault(key):
                problems.append(
                    f"models[{index}] ({model.name}): provider.api_key_env: "
                    f"the environment variable {endpoint.api_key_env} {fault}"
                )
    if problems:
        raise CatalogueError(str(settings.catalogue_path or DEFAULT_SOURCE), problems)
    return keys


def _key_fault(key: str) -> str:
    """Returns why `key` cannot be sent, without telling it; empty when it can."""
    if not key:
        return "is not set"
    fine = key.isascii() and key.isprintable() and " " not in key
    return "" if fine else "is no key: it has blanks or other signs that no header takes"


def warn_of_free_model(settings: RouterSettings) -> None:
    """Says in the log that the model of the settings counts as free, if it does."""
    prices = (
        settings.openai_input_usd_per_million_tokens,
        settings.openai_output_usd_per_million_tokens,
    )
    if settings.openai_model and not any(prices):
        _logger.warning(
            "the model %s has no prices and counts as free: set %sOPENAI_INPUT_USD_PER_MILLION_"
            "TOKENS and %sOPENAI_OUTPUT_USD_PER_MILLION_TOKENS",
            settings.openai_model,
            ENV_PREFIX,
            ENV_PREFIX,
        )


def _added_model(settings: RouterSettings) -> Model:
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
            tier=Tier.LARGE,
            context_window=settings.openai_context_window,
            max_output_tokens=settings.openai_max_output_tokens,
            quality=settings.openai_quality,
            capabilities=frozenset({"grounding", "json", "reasoning", "streaming", "tools"}),
            limits=Limits(),
            prices=(
                Price(
                    input_usd_per_million_tokens=settings.openai_input_usd_per_million_tokens,
                    output_usd_per_million_tokens=settings.openai_output_usd_per_million_tokens,
                ),
            ),
        )
    except ValidationError as error:
        problems = [
            f"{ENV_PREFIX}OPENAI_{str(fault['loc'][-1]).upper()}: {fault['msg']}"
            if fault["loc"]
            else f"{ENV_PREFIX}OPENAI_*: {fault['msg']}"
            for fault in error.errors()
        ]
        raise CatalogueError("of the settings", problems) from error
