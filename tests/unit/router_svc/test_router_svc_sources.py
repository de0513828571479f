import pytest

from router_svc.decide.passage import asks_for_summary, find_passage
from router_svc.generate.records import Citation
from router_svc.providers.sources import read_citations, render_sources
from router_svc.requests.records import Document
from tests.unit.router_svc.router_builders import LONG_TEXT, a_document, a_request

DOCUMENTS = (
    Document(id="frost-report", title="Frost", text="It froze."),
    Document(id="flood/2024", title="", text="It rained."),
)


def test_sources_are_numbered_and_titled() -> None:
    text = render_sources(DOCUMENTS)
    assert text.endswith("\n\n[1] Frost\nIt froze.\n\n[2]\nIt rained.")


@pytest.mark.parametrize(
    ("text", "shown", "cited"),
    [
        ("It froze [1].", "It froze [frost-report].", ["frost-report"]),
        ("Rain [2], frost[1].", "Rain [flood/2024], frost[frost-report].", [1, 0]),
        (
            "Both [1, 2] and [ 2;1 ]",
            "Both [frost-report][flood/2024] and [flood/2024][frost-report]",
            [0, 1],
        ),
        ("Again [2] and [2].", "Again [flood/2024] and [flood/2024].", [1]),
        ("No such source [3] or [0] or [1, 7].", "No such source [3] or [0] or [1, 7].", []),
        ("`a[1]` and ```\nb[2]\n``` but [1]", "`a[1]` and ```\nb[2]\n``` but [frost-report]", [0]),
        ("An open ```fence[1]", "An open ```fence[1]", []),
        ("In [1999] nothing.", "In [1999] nothing.", []),
    ],
)
def test_numbers_become_ids(text: str, shown: str, cited: list[int | str]) -> None:
    ids = [each if isinstance(each, str) else DOCUMENTS[each].id for each in cited]
    assert read_citations(text, DOCUMENTS) == (shown, tuple(Citation(each, "") for each in ids))


def test_without_documents_nothing_is_cited() -> None:
    assert read_citations("See [1].", ()) == ("See [1].", ())


@pytest.mark.parametrize(
    ("question", "general"),
    [
        ("Summarise this.", True),
        ("Please summarize the documents", True),
        ("TL;DR", True),
        ("Summarise what the two reports say about frost", False),
        ("What is a summary?", False),
    ],
)
def test_a_summary_of_no_topic_has_no_question(question: str, general: bool) -> None:  # noqa: FBT001
    assert asks_for_summary(question) is general
    passage = find_passage(a_request(question, documents=(a_document(),)))
    assert passage is not None
    assert passage.question == ("" if general else question)
    assert passage.citable


def test_a_long_message_is_its_own_passage() -> None:
    passage = find_passage(a_request(LONG_TEXT))
    assert passage is not None
    assert passage.documents[0].text == LONG_TEXT
    assert (passage.question, passage.citable) == ("", False)


@pytest.mark.parametrize("text", ["Short. Very. Short. Indeed.", "one endless sentence " * 50])
def test_a_short_message_is_none(text: str) -> None:
    assert find_passage(a_request(text)) is None
