from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_svc.text.sentences import sentences_of, split_sentences


def folded(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("One came. Two went! Did three?", ["One came.", "Two went!", "Did three?"]),
        ("See e.g. Postgres, i.e. The database.", ["See e.g. Postgres, i.e. The database."]),
        ("Dr. Smith met J. Doe. They spoke.", ["Dr. Smith met J. Doe.", "They spoke."]),
        ("It takes 0.5 s. Then it ends.", ["It takes 0.5 s.", "Then it ends."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("Use asyncio.run() here. `Foo` is next.", ["Use asyncio.run() here.", "`Foo` is next."]),
        ("Wait... What was that?", ["Wait...", "What was that?"]),
        ("(It ended.) The rest stayed.", ["(It ended.)", "The rest stayed."]),
        ("No split before lower. case words", ["No split before lower. case words"]),
        ("Version 3. Ümlauts begin too.", ["Version 3.", "Ümlauts begin too."]),
        ("我喜欢数据库。它很快！", ["我喜欢数据库。", "它很快！"]),  # noqa: RUF001
    ],
)
def test_paragraphs_are_split_between_sentences(paragraph: str, sentences: list[str]) -> None:
    assert list(split_sentences(paragraph)) == sentences


MARKDOWN = dedent(
    """\
    # Durable tasks

    A task survives a crash of its
    worker. It continues after its last completed step.
    ## Retries
    - Each step is tried again with a growing delay.
    - Errors that cannot pass are not retried at all
      and fail the task.

    ```python
    def step(ctx):
        return "This is not a sentence of the text."
    ```
    | Queue | Meaning of this queue is here |
    |-------|-------------------------------|

    > Quoted wisdom is quoted once more.

    See below.
    ![picture](a.png) <br>
    """
)

REST = dedent(
    """\
    ===============
    The with statement
    ===============

    .. _with-label:

    The suite is executed. An exit method is
    always called afterwards.

    Example of usage::

        with open("a file") as the_file:
            the_file.write("never quoted")

    The block is equivalent to:

       manager = (EXPRESSION)
       value = enter(manager)
       try:
           SUITE

    Notes
    -----
    1. The first note says something useful.
    2. The second note follows (see the first).

    :param name: not a sentence of the running text
    +------+-------+
    | cell | other |
    +------+-------+
    """
)


def test_markdown_is_reduced_to_its_sentences() -> None:
    assert sentences_of(MARKDOWN) == [
        "A task survives a crash of its worker.",
        "It continues after its last completed step.",
        "Each step is tried again with a growing delay.",
        "Errors that cannot pass are not retried at all and fail the task.",
        "Quoted wisdom is quoted once more.",
    ]


def test_restructured_text_is_reduced_to_its_sentences() -> None:
    assert sentences_of(REST) == [
        "The suite is executed.",
        "An exit method is always called afterwards.",
        "Example of usage::",
        "The block is equivalent to:",
        "The first note says something useful.",
        "The second note follows (see the first).",
    ]


def test_a_repeated_sentence_is_listed_once() -> None:
    assert sentences_of("The same thing again. The same thing again.") == ["The same thing again."]


@pytest.mark.parametrize(
    ("document", "sentences"),
    [("Paris", ["Paris"]), ("# Paris\n\n  in France", ["# Paris in France"]), ("--- 42 ---", [])],
)
def test_a_document_without_sentences_gives_its_words(document: str, sentences: list[str]) -> None:
    assert sentences_of(document) == sentences


def test_a_wall_of_text_is_not_a_sentence() -> None:
    wall = "word " * 400
    assert sentences_of(f"{wall}. A short sentence stands behind it.") == [
        "A short sentence stands behind it."
    ]


_LINES = st.sampled_from(
    [
        "",
        "   ",
        "# Heading",
        "=====",
        "- A list item that says a thing.",
        "> A quoted line of text follows.",
        "1. Numbered items are prose, too.",
        "```",
        "~~~",
        "Some prose that is wrapped over",
        "several lines. It goes on.",
        "    indented words of some kind",
        "x = compute(y)",
        "| a | b |",
        ".. note:: Something",
        "<b>bold</b>",
        "A line with a tab\tand \u2028 odd\x0bspaces.",
        "For example:",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(_LINES, max_size=14).map("\n".join)))
def test_every_sentence_stands_in_the_document_word_for_word(document: str) -> None:
    for sentence in sentences_of(document):
        assert sentence
        assert sentence in folded(document)
        assert sentence == folded(sentence)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["A", "b.", "C!", "e.g.", "(D.)", "5", "。"]), max_size=20))
def test_splitting_loses_nothing(words: list[str]) -> None:
    paragraph = " ".join(words)
    assert folded(" ".join(split_sentences(paragraph))) == paragraph


@pytest.mark.parametrize(
    "document",
    [
        "." * 300_000,
        "=a" * 150_000,
        "(=" * 150_000 + "x",
        "<" * 300_000,
        "e.g. A " * 40_000,
        "- " * 150_000,
        "word\n" * 60_000,
        "[" * 300_000 + ". A",
        "a. " + "((" * 150_000,
        "x" * 300_000,
        " " * 300_000 + "end. Here",
        "`" * 300_001,
    ],
)
def test_odd_documents_are_read_in_linear_time(document: str) -> None:
    # Quadratic reading would take longer than a test may.
    for sentence in sentences_of(document):
        assert len(sentence) <= 1_000
