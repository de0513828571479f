"""A base URL and a key are enough where the endpoint serves one model."""

import pytest
from pydantic import SecretStr

from router_svc.catalogue.file import CatalogueError
from router_svc.providers.discovery import only_model
from router_svc.settings import RouterSettings
from tests.integration.router_svc.chat_endpoint import Reply, chat_endpoint, refusal

KEY = "sk-very-secret"


def served(*names: str) -> Reply:
    return Reply({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


async def ask(reply: Reply) -> str:
    async with chat_endpoint() as endpoint:
        endpoint.otherwise = reply
        settings = RouterSettings(openai_base_url=endpoint.base_url, openai_api_key=SecretStr(KEY))
        name = await only_model(settings)
        assert endpoint.seen[0].path == "/v1/models"
        assert endpoint.seen[0].headers["authorization"] == f"Bearer {KEY}"
        return name


async def test_the_only_model_is_taken() -> None:
    assert await ask(served("their-model")) == "their-model"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (served("small", "large"), "serves 2 models.*OPENAI_MODEL.*large, small"),
        (served(), "serves 0 models"),
        (refusal(401, "bad key"), "does not say which models"),
    ],
)
async def test_otherwise_the_start_is_refused_without_telling_the_key(
    reply: Reply, problem: str
) -> None:
    with pytest.raises(CatalogueError, match=problem) as caught:
        await ask(reply)
    assert KEY not in str(caught.value)
