import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from router_svc.catalogue.configured import (
    find_keys,
    load_catalogue,
    must_ask,
    warn_of_free_model,
)
from router_svc.catalogue.faults import CatalogueError
from router_svc.catalogue.file import parse
from router_svc.catalogue.models import OpenAIProvider
from router_svc.settings import RouterSettings

KEY = "sk-the-secret-key"
FILE = """
models:
  - name: theirs
    provider: {kind: openai, base_url: "http://127.0.0.1:1/v1", model: m, api_key_env: THEIR_KEY}
    context_window: 1000
    max_output_tokens: 100
    quality: 0.5
    prices: [{input_usd_per_million_tokens: 0, output_usd_per_million_tokens: 0}]
"""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RouterSettings.model_fields:
        monkeypatch.delenv(f"STEPWIRE_ROUTER_{name.upper()}", raising=False)


def added(**fields: Any) -> OpenAIProvider:
    model = load_catalogue(RouterSettings(openai_model="their-model", **fields)).find("openai")
    assert model is not None
    assert isinstance(model.provider, OpenAIProvider)
    return model.provider


def test_without_settings_there_is_the_extractive_model_alone() -> None:
    assert [model.name for model in load_catalogue(RouterSettings()).models] == [
        "extractive-minilm"
    ]


def test_a_base_url_a_key_and_a_model_add_a_model() -> None:
    settings = RouterSettings(
        openai_base_url="http://127.0.0.1:8000/v1",
        openai_api_key=SecretStr(KEY),
        openai_model="their-model",
        openai_input_usd_per_million_tokens=Decimal("0.5"),
    )
    catalogue = load_catalogue(settings)
    assert [model.name for model in catalogue.models] == ["extractive-minilm", "openai"]
    assert catalogue.models[1].prices[0].input_micro_usd == 500_000
    assert find_keys(catalogue, settings, {}) == {"STEPWIRE_ROUTER_OPENAI_API_KEY": KEY}
    assert KEY not in repr(settings) + repr(catalogue)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_ROUTER_OPENAI_MODEL", "their-model")
    monkeypatch.setenv("STEPWIRE_ROUTER_OPENAI_API_KEY", KEY)
    settings = RouterSettings()
    catalogue = load_catalogue(settings)
    assert find_keys(catalogue, settings, {}) == {"STEPWIRE_ROUTER_OPENAI_API_KEY": KEY}


def test_a_key_that_no_header_can_hold_is_refused_without_being_told() -> None:
    settings = RouterSettings(openai_model="m")
    catalogue = parse(FILE, source="x")
    # As files end that keys are read from.
    assert find_keys(catalogue, settings, {"THEIR_KEY": f"{KEY}\n"}) == {"THEIR_KEY": KEY}
    for key in (f"{KEY}\n{KEY}", f"{KEY} more", f"{KEY}é"):
        with pytest.raises(CatalogueError) as caught:
            find_keys(catalogue, settings, {"THEIR_KEY": key})
        (problem,) = caught.value.problems
        assert problem.startswith("models[0] (theirs): provider.api_key_env: ")
        assert "THEIR_KEY" in problem
        assert KEY not in problem


def test_each_endpoint_is_given_the_field_that_it_knows() -> None:
    assert added().base_url == "https://api.openai.com/v1"
    assert added().token_limit_field == "max_completion_tokens"
    assert added(openai_base_url="http://127.0.0.1:1/v1").token_limit_field == "max_tokens"


def test_a_model_without_a_key_needs_none() -> None:
    settings = RouterSettings(openai_model="m", openai_base_url="http://127.0.0.1:1/v1")
    assert find_keys(load_catalogue(settings), settings, {}) == {}


def test_an_unpriced_model_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_free_model(RouterSettings(openai_model="their-model"))
    assert "their-model has no prices" in caplog.text


@pytest.mark.parametrize(
    "fields",
    [{"openai_base_url": "http://127.0.0.1:1/v1"}, {"openai_api_key": SecretStr(KEY)}],
)
def test_an_endpoint_without_a_model_is_asked_for_it(fields: dict[str, Any]) -> None:
    assert must_ask(RouterSettings(**fields))
    assert not must_ask(RouterSettings(**fields, openai_model="m"))
    assert not must_ask(RouterSettings())


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"openai_base_url": "localhost"}, "STEPWIRE_ROUTER_OPENAI_BASE_URL"),
        ({"openai_context_window": 10}, "max_output_tokens must be below context_window"),
    ],
)
def test_faulty_settings_are_named(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(CatalogueError, match=name):
        added(**fields)


def test_a_file_takes_the_place_of_the_default(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(FILE)
    settings = RouterSettings(catalogue_path=path)
    catalogue = load_catalogue(settings)
    assert [model.name for model in catalogue.models] == ["theirs"]
    assert find_keys(catalogue, settings, {"THEIR_KEY": KEY}) == {"THEIR_KEY": KEY}


@pytest.mark.parametrize("environment", [{}, {"THEIR_KEY": ""}])
def test_a_key_that_is_not_set_is_named(tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(FILE)
    settings = RouterSettings(catalogue_path=path)
    with pytest.raises(CatalogueError) as caught:
        find_keys(load_catalogue(settings), settings, environment)
    assert caught.value.source == str(path)
    assert caught.value.problems == (
        "models[0] (theirs): provider.api_key_env: the environment variable THEIR_KEY is not set",
    )


def test_settings_that_a_file_would_hide_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(FILE)
    with pytest.raises(CatalogueError, match="unset them"):
        load_catalogue(RouterSettings(catalogue_path=path, openai_model="m"))
