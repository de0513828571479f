"""The questions are fair: the reference answers each in the topics listed, and only there."""

import sys

import pytest

from stepwire.demo.corpus import read_topics
from stepwire.demo.questions import Question, read_questions

QUESTIONS = read_questions()
TOPICS = {topic.name: topic for topic in read_topics()}

quoted_from_3_11 = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the evidence is quoted from Python 3.11's reference"
)


def folded(text: str) -> str:
    return " ".join(text.split())


def test_there_are_enough_and_each_is_asked_once() -> None:
    assert len(QUESTIONS) >= 28
    assert len({question.question for question in QUESTIONS}) == len(QUESTIONS)
    cited = {topic for question in QUESTIONS for topic in question.topics}
    assert len(cited) >= 40, "they go through the whole reference"


@quoted_from_3_11
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.question)
def test_exactly_the_topics_that_hold_the_evidence_are_accepted(question: Question) -> None:
    texts = {name: folded(topic.text) for name, topic in TOPICS.items()}
    evidence = [folded(passage) for passage in question.evidence]
    holding = {name for name, text in texts.items() if any(e in text for e in evidence)}
    assert set(question.topics) == holding
    for passage in evidence:
        assert any(passage in text for text in texts.values()), passage


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.question)
def test_no_question_is_copied_from_the_reference(question: Question) -> None:
    words = folded(question.question.lower()).rstrip("?").split()
    for topic in TOPICS.values():
        text = folded(topic.text.lower())
        for start in range(len(words) - 6):
            assert " ".join(words[start : start + 7]) not in text, topic.name


def test_the_corpus_is_the_whole_reference() -> None:
    assert len(TOPICS) >= 79
    assert sum(len(topic.text) for topic in TOPICS.values()) > 400_000
    assert TOPICS["with"].title == 'The "with" statement'
