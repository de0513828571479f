from typing import Any

import pytest

from stepwire.sdk.functions import PermanentError, default_registry
from stepwire.sdk.library import cite, split


def test_the_functions_are_registered_for_workers() -> None:
    assert {"text.split", "text.cite"} <= set(default_registry.names())


def test_split_numbers_passages_and_puts_them_into_batches() -> None:
    text = "\n\n".join(f"Paragraph {number} is here." for number in range(5))
    result = split({"id": "doc", "text": text, "max_characters": 25, "batch_size": 2})
    assert result["passages"] == 5
    assert [[p["id"] for p in batch] for batch in result["batches"]] == [
        ["doc#0", "doc#1"],
        ["doc#2", "doc#3"],
        ["doc#4"],
    ]
    for batch in result["batches"]:
        assert [passage["slot"] for passage in batch] == list(range(len(batch)))
    third = result["batches"][1][0]
    assert (third["position"], text[third["start"] :][:11]) == (2, "Paragraph 2")


def test_an_empty_text_has_no_batches() -> None:
    assert split({"id": "doc", "text": " "}) == {"passages": 0, "batches": []}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("text", "input"),
        ({"text": "a"}, "id"),
        ({"id": "", "text": "a"}, "id"),
        ({"id": "d", "text": 5}, "text"),
        ({"id": "d", "text": "a", "max_characters": 19}, "max_characters"),
        ({"id": "d", "text": "a", "batch_size": 0}, "batch_size"),
        ({"id": "d", "text": "a", "colour": "red"}, "colour"),
        ({"id": "d", "text": "a", "max_characters": 40, "overlap_characters": 21}, "overlap"),
    ],
)
def test_a_bad_input_fails_for_good_and_names_the_field(value: Any, named: str) -> None:
    with pytest.raises(PermanentError, match=named):
        split(value)


def hit(point_id: str, source: str) -> dict[str, Any]:
    return {"id": point_id, "score": 0.5, "payload": {"source": source, "title": source.upper()}}


def test_cite_gathers_the_quotes_of_each_source_in_the_order_of_use() -> None:
    answer = {
        "text": "b then a",
        "model": "m",
        "citations": [
            {"document_id": "b#1", "quote": "one"},
            {"document_id": "a#0", "quote": "two"},
            {"document_id": "b#4", "quote": "three"},
        ],
    }
    hits = [hit("a#0", "a"), hit("b#1", "b"), hit("b#4", "b"), hit("c#0", "c")]
    assert cite({"answer": answer, "hits": hits}) == {
        "text": "b then a",
        "model": "m",
        "sources": [
            {"source": "b", "title": "B", "quotes": ["one", "three"]},
            {"source": "a", "title": "A", "quotes": ["two"]},
        ],
    }


def test_a_citation_of_something_that_was_not_found_fails() -> None:
    answer = {"text": "", "model": "m", "citations": [{"document_id": "x#0", "quote": "q"}]}
    with pytest.raises(PermanentError, match="'x#0', which the search did not find"):
        cite({"answer": answer, "hits": [hit("a#0", "a")]})
