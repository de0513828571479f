from pathlib import Path
from typing import Any

import pytest
import yaml

from router_svc.catalogue.file import CatalogueError, load, load_default, parse
from tests.unit.router_svc.router_builders import a_model

ENTRY: dict[str, Any] = {
    "name": "small",
    "provider": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"},
    "context_window": 8192,
    "max_output_tokens": 512,
    "quality": 0.5,
    "input_usd_per_million_tokens": 0.15,
    "output_usd_per_million_tokens": 0.6,
}


def problems_of(*entries: Any) -> tuple[str, ...]:
    with pytest.raises(CatalogueError) as caught:
        parse(yaml.safe_dump({"models": list(entries)}), source="models.yaml")
    assert caught.value.source == "models.yaml"
    assert str(caught.value).startswith("catalogue models.yaml:")
    return caught.value.problems


def test_the_packaged_catalogue_has_the_extractive_model() -> None:
    model = load_default().find("extractive-minilm")
    assert model is not None
    assert model.quotes_only
    assert model.capabilities == {"grounding"}
    assert model.cost_micro_usd(input_tokens=10_000, output_tokens=10_000) == 0


def test_a_full_entry_is_read() -> None:
    other = ENTRY | {"name": "large", "fallbacks": ["small"], "capabilities": ["json"]}
    catalogue = parse(yaml.safe_dump({"models": [ENTRY, other]}), source="x")
    assert [model.name for model in catalogue.models] == ["small", "large"]
    assert catalogue.models[1].fallbacks == ("small",)
    assert catalogue.models[0].input_price_micro_usd == 150_000
    assert catalogue.find("medium") is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quality": 1.5}, "quality"),
        ({"quality": float("nan")}, "quality"),
        ({"context_window": 0}, "context_window"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"input_usd_per_million_tokens": -1}, "input_usd_per_million_tokens"),
        ({"output_usd_per_million_tokens": 0.0000001}, "output_usd_per_million_tokens"),
        ({"capabilities": ["Not A Name"]}, "capabilities"),
        ({"fallbacks": ["other", "other"]}, "fallbacks"),
        ({"colour": "red"}, "colour"),
        ({"provider": {"kind": "telepathy"}}, "provider"),
        ({"provider": ENTRY["provider"] | {"base_url": "example.org"}}, "provider.base_url"),
        ({"provider": ENTRY["provider"] | {"api_key_env": "sk-123 456"}}, "provider.api_key_env"),
        ({"provider": ENTRY["provider"] | {"model": ""}}, "provider.model"),
    ],
)
def test_a_faulty_field_is_named_with_its_entry(change: dict[str, Any], field: str) -> None:
    (problem,) = problems_of(ENTRY, ENTRY | {"name": "bad"} | change)
    assert problem.startswith(f"models[1] (bad): {field}")


@pytest.mark.parametrize("field", ["input_usd_per_million_tokens", "output_usd_per_million_tokens"])
def test_a_model_without_a_price_is_refused(field: str) -> None:
    entry = {key: value for key, value in ENTRY.items() if key != field}
    assert problems_of(entry) == (f"models[0] (small): {field}: Field required",)


def test_an_entry_without_a_name_is_told_by_its_place() -> None:
    entry = {key: value for key, value in ENTRY.items() if key != "name"}
    assert problems_of(ENTRY, entry) == ("models[1]: name: Field required",)


def test_an_answer_must_fit_into_the_window() -> None:
    (problem,) = problems_of(ENTRY | {"max_output_tokens": 8192})
    assert problem.startswith("models[0] (small): ")
    assert "max_output_tokens must be below context_window" in problem


def test_all_faults_are_told_at_once() -> None:
    assert len(problems_of(ENTRY | {"quality": 2, "context_window": -1}, 7)) == 3


def test_a_name_is_used_once() -> None:
    assert problems_of(ENTRY, ENTRY) == ("models[1] (small): name: already used by models[0]",)


def test_a_fallback_must_exist() -> None:
    assert problems_of(ENTRY | {"fallbacks": ["gone"]}) == (
        "models[0] (small): fallbacks: no model is called 'gone'",
    )


@pytest.mark.parametrize(
    ("links", "cycle"),
    [
        ({"a": ["a"]}, "a -> a"),
        ({"a": ["b"], "b": ["a"]}, "a -> b -> a"),
        ({"a": ["b", "c"], "b": [], "c": ["d"], "d": ["c"]}, "c -> d -> c"),
    ],
)
def test_fallbacks_must_not_form_a_cycle(links: dict[str, list[str]], cycle: str) -> None:
    entries = [ENTRY | {"name": name, "fallbacks": to} for name, to in links.items()]
    (problem,) = problems_of(*entries)
    assert problem.endswith(f"fallbacks: form a cycle: {cycle}")


def test_fallbacks_may_meet_again() -> None:
    links = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
    entries = [ENTRY | {"name": name, "fallbacks": to} for name, to in links.items()]
    assert len(parse(yaml.safe_dump({"models": entries}), source="x").models) == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be a mapping"),
        ("- a", "must be a mapping"),
        ("models: [", "is not YAML"),
        ("models: []", "models: Value error, there must be at least one model"),
        ("modles: []", "models: Field required"),
        ("models: 3\nmodels: 4", "the key 'models' is given twice"),
        ("models: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_what_is_no_catalogue_is_refused(text: str, problem: str) -> None:
    with pytest.raises(CatalogueError, match="catalogue given") as caught:
        parse(text, source="given.yaml")
    assert problem in caught.value.problems[0]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(CatalogueError, match="cannot be read") as caught:
        load(path)
    assert caught.value.source == str(path)


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "cost"),
    [(0, 0, 0), (1, 0, 1), (7, 0, 2), (1_000_000, 0, 150_000), (1_000_000, 1_000_000, 750_000)],
)
def test_costs_are_exact_and_rounded_up(input_tokens: int, output_tokens: int, cost: int) -> None:
    model = a_model("m", input_usd_per_million_tokens=0.15, output_usd_per_million_tokens=0.6)
    assert model.cost_micro_usd(input_tokens=input_tokens, output_tokens=output_tokens) == cost
