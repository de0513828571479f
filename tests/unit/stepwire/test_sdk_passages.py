from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire.sdk.passages import split_text

TEXTS = st.text(alphabet="ab.  \n\n*#A1\t", max_size=400)


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(TEXTS, st.integers(min_value=1, max_value=60))
def test_nothing_is_lost_doubled_or_too_long(text: str, limit: int) -> None:
    passages = split_text(text, max_characters=limit)
    assert squeezed("".join(passage.text for passage in passages)) == squeezed(text)
    assert all(0 < len(passage.text) <= limit for passage in passages)
    assert [passage.position for passage in passages] == list(range(len(passages)))
    assert all(text.startswith(passage.text, passage.start) for passage in passages)


@given(TEXTS, st.integers(min_value=8, max_value=60))
def test_two_neighbours_are_longer_than_one_may_be(text: str, limit: int) -> None:
    passages = split_text(text, max_characters=limit)
    for left, right in pairwise(passages):
        assert right.start + len(right.text) - left.start > limit


@given(TEXTS, st.integers(min_value=10, max_value=60))
def test_passages_overlap_by_whole_words_within_the_limit(text: str, limit: int) -> None:
    plain = split_text(text, max_characters=limit - limit // 3)
    passages = split_text(text, max_characters=limit, overlap_characters=limit // 3)
    assert len(passages) == len(plain)
    for passage, core in zip(passages, plain, strict=True):
        assert passage.text.endswith(core.text)
        assert len(passage.text) <= limit
        assert passage.start == 0 or text[passage.start - 1].isspace() or passage.text == core.text


def test_paragraphs_are_kept_whole_and_put_together_while_they_fit() -> None:
    text = "One.\n\nTwo is longer.\n\nThree is the longest of all."
    assert [p.text for p in split_text(text, max_characters=30)] == [
        "One.\n\nTwo is longer.",
        "Three is the longest of all.",
    ]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    text = 'It works. Does it? "Yes." He said so e.g. twice. See 3. 1 and more.'
    assert [p.text for p in split_text(text, max_characters=26)] == [
        'It works. Does it? "Yes."',
        "He said so e.g. twice.",
        "See 3. 1 and more.",
    ]


def test_a_long_sentence_is_cut_between_words_into_pieces_of_like_length() -> None:
    text = " ".join(["word"] * 21)
    assert [len(p.text) for p in split_text(text, max_characters=100)] == [54, 49]


def test_a_word_that_is_too_long_is_cut_anywhere() -> None:
    assert [p.text for p in split_text("x" * 25, max_characters=10)] == [
        "x" * 10,
        "x" * 10,
        "xxxxx",
    ]


@pytest.mark.parametrize("heading", ["# Boats", "Boats\n=====", "Boats\n*****"])
def test_a_heading_stays_with_what_follows_it(heading: str) -> None:
    text = f"{'a' * 30}\n\n{heading}\n\n{'b' * 30}"
    assert [p.text for p in split_text(text, max_characters=50)] == [
        "a" * 30,
        f"{heading}\n\n{'b' * 30}",
    ]


@pytest.mark.parametrize("text", ["", " \n\n\t "])
def test_a_text_without_a_visible_character_has_no_passages(text: str) -> None:
    assert split_text(text, max_characters=10) == []
