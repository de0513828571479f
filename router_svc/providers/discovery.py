"""Asks an OpenAI-compatible endpoint which models it serves."""

from router_svc.catalogue.configured import openai_base_url
from router_svc.catalogue.faults import CatalogueError
from router_svc.catalogue.file import DEFAULT_SOURCE
from router_svc.settings import ENV_PREFIX, RouterSettings

# The package insists on a key; endpoints that ask for none ignore this one.
NO_KEY = "none"
TIMEOUT_SECONDS = 10.0
_SHOWN = 10


async def only_model(settings: RouterSettings) -> str:
    """Returns the name of the one model that the endpoint of the settings serves.

    Raises:
        CatalogueError: The endpoint does not answer, or does not serve exactly one
            model: then the settings must say which.
    """
    import openai  # noqa: PLC0415 - a third of all that a router would import, and few ask

    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else NO_KEY
    base_url = openai_base_url(settings)
    variable = f"{ENV_PREFIX}OPENAI_MODEL"
    client = openai.AsyncOpenAI(
        api_key=key, base_url=base_url, max_retries=1, timeout=TIMEOUT_SECONDS
    )
    try:
        names = sorted([model.id async for model in client.models.list()])
    except openai.OpenAIError as error:
        problem = f"{base_url} does not say which models it serves ({error}): set {variable}"
        raise CatalogueError(DEFAULT_SOURCE, [problem]) from error
    finally:
        await client.close()
    if len(names) != 1:
        some = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        problem = f"{base_url} serves {len(names)} models: set {variable} to one of them: {some}"
        raise CatalogueError(DEFAULT_SOURCE, [problem])
    return names[0]
