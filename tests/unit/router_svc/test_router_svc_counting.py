"""Exact counts, bounds, and the catalogue's holder."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_svc.catalogue.configured import ConfiguredSource
from router_svc.catalogue.faults import CatalogueError
from router_svc.catalogue.holder import CatalogueHolder, Snapshot
from router_svc.decide.embedding import BoundedEmbedder
from router_svc.decide.ports import Vector
from router_svc.settings import RouterSettings
from router_svc.tokens.families import TokenCounters, count_request, most_tokens
from tests.unit.router_svc.router_builders import a_document, a_request

COUNTERS = TokenCounters()
MINILM = COUNTERS.of("minilm")
PRICES = "prices: [{input_usd_per_million_tokens: 0, output_usd_per_million_tokens: 0}]"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("hello world", 2),
        ("The router chooses the cheapest model whose quality is enough for the request.", 16),
        # Longer than what is remembered.
        ("hello world " * 1_000, 2_000),
    ],
)
def test_a_named_tokenizer_counts_exactly(text: str, tokens: int) -> None:
    assert MINILM.count(text) == tokens


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=300))
def test_no_tokenizer_exceeds_the_bound(text: str) -> None:
    request = a_request(text, documents=(a_document(text=text),))
    for tokenizer in ("minilm", "estimate"):
        counted = COUNTERS.count(tokenizer, request)
        assert counted.exact == (tokenizer == "minilm")
    assert count_request(MINILM, request) <= most_tokens(request)


def test_a_tokenizer_that_is_none_is_refused_with_the_catalogue(tmp_path: Path) -> None:
    path, broken = tmp_path / "models.yaml", tmp_path / "tokenizer.json"
    broken.write_text("{}")
    path.write_text(
        "models: [{name: m, provider: {kind: extractive}, context_window: 9, max_output_tokens: 2,"
        f" quality: 0, tokenizer: {broken}, {PRICES}}}]"
    )
    source = ConfiguredSource(RouterSettings(catalogue_path=path), {}, COUNTERS.of)
    with pytest.raises(CatalogueError, match=r"models\[0\] \(m\): tokenizer: .*tokenizer.json"):
        source.read()


def test_a_price_that_begins_later_is_none_yet(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    later = PRICES.replace("[{", "[{valid_from: 2999-01-01, ")
    path.write_text(
        "models: [{name: m, provider: {kind: extractive}, context_window: 9, max_output_tokens: 2,"
        f" quality: 0, {later}}}]"
    )
    source = ConfiguredSource(RouterSettings(catalogue_path=path), {}, COUNTERS.of)
    with pytest.raises(CatalogueError, match=r"models\[0\] \(m\): prices: none of them holds yet"):
        source.read()


class Sequence:
    """A `Source` that gives one thing after the other."""

    def __init__(self, *given: Snapshot | str) -> None:
        self.given = list(given)

    def read(self) -> Snapshot:
        found = self.given.pop(0)
        if isinstance(found, str):
            raise CatalogueError(found, ["is broken"])
        return found


def a_snapshot(version: str) -> Snapshot:
    catalogue = ConfiguredSource(RouterSettings(), {}, COUNTERS.of).read().catalogue
    return Snapshot(catalogue, {}, version)


def test_what_is_refused_changes_nothing_and_is_told_once() -> None:
    one, two = a_snapshot("1"), a_snapshot("2")
    noticed: list[bool] = []
    told: list[str] = []
    source = Sequence("bad", "bad", one, "worse", two)
    holder = CatalogueHolder(source, one, noticed=noticed.append)
    holder.subscribe(lambda snapshot: told.append(snapshot.version))
    holder.take(*holder.read())
    assert holder.current is one
    assert "is broken" in holder.refused
    holder.take(*holder.read())
    assert noticed == [False]
    # The operator takes the change back.
    holder.take(*holder.read())
    assert not holder.refused
    holder.take(*holder.read())
    holder.take(*holder.read())
    assert holder.current is two
    assert told == ["1", "2"]
    assert noticed == [False, True, False, True]


async def test_a_meaning_that_is_late_is_done_without() -> None:
    calls = 0

    async def never(text: str) -> Vector:
        nonlocal calls
        calls += 1
        await asyncio.Event().wait()
        raise AssertionError(text)

    embedder = BoundedEmbedder(never, deadline_seconds=0.001)
    assert await embedder.embed("one") is None
    # Whoever is late is left alone for a while.
    assert await embedder.embed("two") is None
    assert calls == 1
