import math
import re
from collections.abc import Sequence

import numpy as np
import pytest

from model_svc.ports import DEFAULT_OPTIONS, Embeddings, EmbedOptions
from model_svc.text.candidates import Document, candidates_of
from model_svc.text.extract import Extract, Extractor

WORD = re.compile(r"\w{4,}")


class WordCounts:
    """Embeds a text as its normalized counts of longer words: like words, like vectors."""

    dimension = 400

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self.read: list[str] = []

    async def embed(
        self, texts: Sequence[str], options: EmbedOptions = DEFAULT_OPTIONS
    ) -> Embeddings:
        self.read = list(texts)
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for index, text in enumerate(texts):
            for word in WORD.findall(text.lower()):
                vectors[index, self._places.setdefault(word, len(self._places))] += 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors, sum(len(WORD.findall(text)) for text in texts), 0)


WEATHER = Document("weather", "Rain falls over the hills today. The wind is strong at the coast.")
QUEUES = Document(
    "queues",
    "A worker takes steps from a queue. The queue holds ready steps in order. Tea is served hot.",
)


async def extract(
    *documents: Document, question: str = "", quotes: int = 2, limit: int = 100
) -> Extract:
    return await Extractor(max_sentences=limit).extract(
        WordCounts(), question=question, documents=documents, quotes=quotes
    )


async def test_the_nearest_sentences_are_quoted_best_first() -> None:
    result = await extract(WEATHER, QUEUES, question="What does the queue hold in order?")
    assert [quote.text for quote in result.quotes] == [
        "The queue holds ready steps in order.",
        "A worker takes steps from a queue.",
    ]
    assert {quote.document_id for quote in result.quotes} == {"queues"}
    # what does queue hold order; queue holds ready steps order
    assert result.quotes[0].score == pytest.approx(2 / 5)
    assert result.tokens == 5 + 5 + 3 + 5 + 5 + 1


async def test_a_repetition_is_not_quoted_twice() -> None:
    result = await extract(
        Document("a", "The queue holds ready steps in order."),
        Document("b", "In order the queue holds ready steps! A queue is a line of steps."),
        question="What does the queue hold ready in order?",
        quotes=3,
    )
    assert [quote.text for quote in result.quotes] == [
        "The queue holds ready steps in order.",
        "A queue is a line of steps.",
    ]


async def test_of_like_sentences_the_better_ranked_document_s_comes_first() -> None:
    first = Document("first", "The apple tastes sweet and fresh here.")
    second = Document("second", "The apple tastes sour and stale here.")
    for documents in ([first, second], [second, first]):
        result = await extract(*documents, question="How does the apple taste?", quotes=1)
        assert result.quotes[0].document_id == documents[0].id


async def test_a_question_is_not_the_answer() -> None:
    # Both sentences are equally near to the question.
    faq = Document("faq", "Does the queue keep steps? The queue keeps steps safe.")
    result = await extract(faq, question="queue steps")
    assert [quote.text for quote in result.quotes] == [
        "The queue keeps steps safe.",
        "Does the queue keep steps?",
    ]
    assert result.quotes[0].score == pytest.approx(result.quotes[1].score)


async def test_without_a_question_the_sentence_nearest_to_the_whole_is_quoted() -> None:
    text = "Steps run on workers. Workers run steps of tasks. Cats are fond of milk."
    result = await extract(Document("d", text), question=" \n", quotes=1)
    assert [quote.text for quote in result.quotes] == ["Workers run steps of tasks."]
    assert -1 <= result.quotes[0].score <= 1


async def test_fewer_quotes_than_asked_for_if_there_are_no_more_sentences() -> None:
    assert len((await extract(WEATHER, question="Rain?", quotes=20)).quotes) == 2


async def test_documents_without_words_give_no_quotes() -> None:
    result = await extract(Document("d", "--- 42 ---"), question="What?")
    assert result == Extract([], 0)


async def test_only_so_many_sentences_are_compared() -> None:
    embedder = WordCounts()
    names = ["alpha", "beta", "gamma", "delta", "epsilon"]
    text = " ".join(f"The {name} sentence talks about things." for name in names)
    await Extractor(max_sentences=2).extract(
        embedder, question="What of delta?", documents=[Document("d", text)], quotes=1
    )
    assert embedder.read == [
        "What of delta?",
        "The alpha sentence talks about things.",
        "The delta sentence talks about things.",
    ]


def test_rare_words_of_the_question_decide_which_sentences_are_kept() -> None:
    common = " ".join(f"The task number {word} is common." for word in ("one", "two", "six"))
    document = Document("d", f"{common} Compensation is the rare one of them.")
    kept = candidates_of([document], question="task compensation", limit=1)
    assert [candidate.text for candidate in kept] == ["Compensation is the rare one of them."]


def test_without_shared_words_the_first_sentences_of_each_document_are_kept() -> None:
    documents = [
        Document(name, f"The first of {name} is here. The second of {name} is there.")
        for name in ("aa", "bb", "cc")
    ]
    kept = candidates_of(documents, question="", limit=3)
    assert [(candidate.document_id, candidate.position) for candidate in kept] == [
        ("aa", 0),
        ("bb", 0),
        ("cc", 0),
    ]


def test_a_sentence_of_two_documents_belongs_to_the_first() -> None:
    documents = [Document(name, "The same sentence stands here.") for name in ("one", "two")]
    kept = candidates_of(documents, question="", limit=10)
    assert [(candidate.document_id, candidate.rank) for candidate in kept] == [("one", 0)]


async def test_scores_are_cosines() -> None:
    result = await extract(Document("d", "Alpha beta gamma."), question="alpha delta", quotes=1)
    assert result.quotes[0].score == pytest.approx(1 / math.sqrt(3 * 2))
