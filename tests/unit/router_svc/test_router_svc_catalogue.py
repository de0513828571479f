from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_svc.catalogue.faults import CatalogueError
from router_svc.catalogue.file import load, load_default, parse
from router_svc.catalogue.prices import Price
from tests.unit.router_svc.router_builders import a_model

ENTRY: dict[str, Any] = {
    "name": "small",
    "provider": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"},
    "context_window": 8192,
    "max_output_tokens": 512,
    "quality": 0.5,
    "prices": [{"input_usd_per_million_tokens": 0.15, "output_usd_per_million_tokens": 0.6}],
}


PRICE = ENTRY["prices"][0]


def dated(moment: str) -> dict[str, Any]:
    return {"valid_from": moment, **PRICE}


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
    assert model.prices[0].cost_micro_usd(10_000, 10_000) == 0


def test_a_full_entry_is_read() -> None:
    other = ENTRY | {"name": "large", "fallbacks": ["small"], "capabilities": ["json"]}
    catalogue = parse(yaml.safe_dump({"models": [ENTRY, other]}), source="x")
    assert [model.name for model in catalogue.models] == ["small", "large"]
    assert catalogue.models[1].fallbacks == ("small",)
    assert catalogue.models[0].prices[0].input_micro_usd == 150_000
    assert catalogue.find("medium") is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quality": 1.5}, "quality"),
        ({"quality": float("nan")}, "quality"),
        ({"context_window": 0}, "context_window"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds"),
        ({"limits": {"concurrency": 0}}, "limits.concurrency"),
        ({"limits": {"tokens_per_minute": 10**19}}, "limits.tokens_per_minute"),
        ({"limits": {"requests_per_minute": 10**19}}, "limits.requests_per_minute"),
        ({"limits": {"requests_per_hour": 5}}, "limits.requests_per_hour"),
        ({"prices": []}, "prices"),
        ({"prices": [PRICE, PRICE]}, "prices"),
        ({"prices": [dated("2026-02-01"), dated("2026-01-01")]}, "prices"),
        ({"prices": [dated("soon")]}, "prices[0].valid_from"),
        # As seconds since 1970, it would hold already.
        ({"prices": [PRICE | {"valid_from": 2027}]}, "prices[0].valid_from"),
        (
            {"prices": [PRICE | {"input_usd_per_million_tokens": -1}]},
            "prices[0].input_usd_per_million_tokens",
        ),
        (
            {"prices": [PRICE | {"output_usd_per_million_tokens": 0.0000001}]},
            "prices[0].output_usd_per_million_tokens",
        ),
        ({"tier": "huge"}, "tier"),
        ({"languages": ["English"]}, "languages[0]"),
        ({"quality_by_kind": {"poetry": 0.5}}, "quality_by_kind"),
        ({"capabilities": ["Not A Name"]}, "capabilities"),
        ({"fallbacks": ["other", "other"]}, "fallbacks"),
        ({"colour": "red"}, "colour"),
        ({"provider": {"kind": "telepathy"}}, "provider"),
        ({"provider": ENTRY["provider"] | {"base_url": "example.org"}}, "provider.base_url"),
        *(
            ({"provider": ENTRY["provider"] | {"base_url": url}}, "provider.base_url")
            for url in (
                "http://127.0.0.1:port/v1",
                "http://127.0.0.1:99999/v1",
                "http://[::1/v1",
                "http://:8000/v1",
                "http://höhe.example/v1",
                f"http://{'a' * 64}.example/v1",
                "http://example.org/v1?key=1",
            )
        ),
        ({"provider": ENTRY["provider"] | {"api_key_env": "sk-123 456"}}, "provider.api_key_env"),
        ({"provider": ENTRY["provider"] | {"model": ""}}, "provider.model"),
        ({"provider": {"kind": "openai", "model": "m"}}, "provider"),
    ],
)
def test_a_faulty_field_is_named_with_its_entry(change: dict[str, Any], field: str) -> None:
    (problem,) = problems_of(ENTRY, ENTRY | {"name": "bad"} | change)
    assert problem.startswith(f"models[1] (bad): {field}")


@pytest.mark.parametrize("field", ["input_usd_per_million_tokens", "output_usd_per_million_tokens"])
def test_a_model_without_a_price_is_refused(field: str) -> None:
    price = {key: value for key, value in PRICE.items() if key != field}
    (problem,) = problems_of(ENTRY | {"prices": [price]})
    assert problem.startswith(f"models[0] (small): prices[0].{field}: Field required")
    entry = {key: value for key, value in ENTRY.items() if key != "prices"}
    assert problems_of(entry)[0].startswith("models[0] (small): prices: Field required")


def test_a_fault_is_told_with_its_line() -> None:
    text = (
        "# Ours.\n"
        "models:\n"
        "  - name: small\n"
        "    provider: {kind: extractive}\n"
        "    context_window: 100\n"
        "    max_output_tokens: 10\n"
        "    quality: 7\n"
        "    prices:\n"
        "      - input_usd_per_million_tokens: 0\n"
        "        output_usd_per_million_tokens: much\n"
    )
    with pytest.raises(CatalogueError) as caught:
        parse(text, source="x")
    quality, price = caught.value.problems
    assert quality.startswith("models[0] (small): quality: ")
    assert quality.endswith("(line 7)")
    assert price.startswith("models[0] (small): prices[0].output_usd_per_million_tokens: ")
    assert price.endswith("(line 10)")


def test_an_entry_without_a_name_is_told_by_its_place() -> None:
    entry = {key: value for key, value in ENTRY.items() if key != "name"}
    (problem,) = problems_of(ENTRY, entry)
    assert problem.startswith("models[1]: name: Field required (line ")


def test_an_answer_must_fit_into_the_window() -> None:
    (problem,) = problems_of(ENTRY | {"max_output_tokens": 8192})
    assert problem.startswith("models[0] (small): ")
    assert "max_output_tokens must be below context_window" in problem


def test_all_faults_are_told_at_once() -> None:
    assert len(problems_of(ENTRY | {"quality": 2, "context_window": -1}, 7)) == 3


def test_a_name_is_used_once() -> None:
    (problem,) = problems_of(ENTRY, ENTRY)
    assert problem.startswith("models[1] (small): name: already used by models[0] (line ")


def test_a_fallback_must_exist() -> None:
    (problem,) = problems_of(ENTRY | {"fallbacks": ["gone"]})
    assert problem.startswith("models[0] (small): fallbacks: no model is called 'gone' (line ")


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
    assert f"fallbacks: form a cycle: {cycle} (line " in problem


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
        ("models:\n  - {valid_from: 2027-02-30}", "day is out of range for month"),
        (f"models: {'9' * 5_000}", "is not YAML"),
        ("models: !!bool maybe", "is not YAML"),
        ("models: !!set {a, b}", "models[0]: Input should be"),
        ("models: " + "[" * 5_000, "nests too deep"),
        ("models: &own [*own]", "models[0]: Input should be"),
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
    ("use", "cost"),
    [
        ((0, 0, 0, 0), 0),
        ((1, 0, 0, 0), 1),
        ((7, 0, 0, 0), 2),
        ((1_000_000, 1_000_000, 0, 0), 750_000),
        # The cached part at its own rate, and reasoning at that of other output.
        ((1_000_000, 1_000_000, 400_000, 500_000), 90_000 + 4_000 + 600_000),
        # More cached than read, which no provider should say.
        ((10, 0, 1_000_000, 0), 1),
    ],
)
def test_costs_are_exact_and_rounded_up(use: tuple[int, int, int, int], cost: int) -> None:
    cached = {"cached_input_usd_per_million_tokens": 0.01}
    price = Price.model_validate(PRICE | cached)
    spent = price.cost_micro_usd(
        use[0], use[1], cached_input_tokens=use[2], reasoning_tokens=use[3]
    )
    assert spent == cost


def test_the_price_of_the_moment_holds() -> None:
    later = dated("2026-03-01") | {"input_usd_per_million_tokens": 9}
    model = a_model("m", prices=[dated("2026-01-01"), later])
    before, first, second = (datetime(year, 2, 1, tzinfo=UTC) for year in (2025, 2026, 2027))
    assert model.price_at(before) is None
    assert model.price_at(first) == model.prices[0]
    assert model.price_at(second) == model.prices[1]


def test_a_model_may_have_several_endpoints() -> None:
    places = [
        {"name": "east", "base_url": "http://127.0.0.1:1/v1"},
        {"name": "west", "base_url": "http://127.0.0.1:2/v1", "api_key_env": "WEST"},
    ]
    model = a_model("m", provider={"kind": "openai", "model": "m", "endpoints": places})
    assert [place.name for place in model.endpoints] == ["east", "west"]
    assert [place.name for place in a_model("n").endpoints] == ["default"]
    with pytest.raises(ValueError, match="must be unique"):
        a_model("m", provider={"kind": "openai", "model": "m", "endpoints": [places[0]] * 2})
