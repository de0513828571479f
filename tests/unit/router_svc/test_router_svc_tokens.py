import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_svc.requests.records import Document
from router_svc.tokens.estimate import EstimatedTokens
from router_svc.tokens.families import count_request
from tests.unit.router_svc.router_builders import a_request

COUNTER = EstimatedTokens()


# Tokens by the WordPiece vocabulary of all-MiniLM-L6-v2, which knows English best.
@pytest.mark.parametrize(
    ("text", "word_pieces"),
    [
        ("The router chooses the cheapest model whose quality is enough for the request.", 16),
        ('{"id": 12345, "values": [0.123, 4.567, 89.01], "name": "abc_def", "ok": true}', 43),
        ("路由器为每个请求选择质量足够的最便宜的模型，并解释其选择的原因。", 32),  # noqa: RUF001
    ],
)
def test_the_estimate_is_above_a_real_count_but_not_far(text: str, word_pieces: int) -> None:
    assert word_pieces <= COUNTER.count(text) <= 2 * word_pieces


def test_nothing_counts_nothing() -> None:
    assert COUNTER.count("") == 0


@settings(deadline=None)
@given(st.text(min_size=1, max_size=200))
def test_any_text_counts_something(text: str) -> None:
    assert COUNTER.count(text) >= 1


@settings(deadline=None)
@given(st.text(max_size=100), st.text(max_size=100))
def test_more_text_never_counts_less(first: str, second: str) -> None:
    assert COUNTER.count(first + second) >= max(COUNTER.count(first), COUNTER.count(second))


def test_a_request_counts_messages_titles_and_texts() -> None:
    bare = count_request(COUNTER, a_request("word " * 40))
    document = Document(id="a", title="Report on the weather", text="rain " * 100)
    whole = count_request(COUNTER, a_request("word " * 40, documents=(document,)))
    assert whole - bare > COUNTER.count(document.title) + COUNTER.count(document.text)
