import re
from collections.abc import Sequence

import numpy as np
import pytest

from model_svc.ports import DEFAULT_OPTIONS, Embeddings, EmbedOptions, Role, TokenizedText
from model_svc.text.candidates import Document
from model_svc.text.compare import Label, classify, rerank, score
from model_svc.text.passages import passages_of

WORD = re.compile(r"\w+")


class Words:
    """Embeds a text as the normalized counts of its words: like words, like vectors."""

    dimension = 500
    max_tokens = 8
    fallback = ""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self.asked: list[tuple[list[str], EmbedOptions]] = []

    async def embed(
        self, texts: Sequence[str], options: EmbedOptions = DEFAULT_OPTIONS
    ) -> Embeddings:
        self.asked.append((list(texts), options))
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for index, text in enumerate(texts):
            for word in WORD.findall(text.lower()):
                vectors[index, self._places.setdefault(word, len(self._places))] += 1
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors / np.maximum(lengths, 1), sum(map(len, texts)), 0)

    async def tokenize(self, texts: Sequence[str], *, special: bool) -> Sequence[TokenizedText]:
        raise AssertionError("comparing texts needs no tokens")


async def test_scores_are_cosines_in_the_order_of_the_candidates() -> None:
    compared = await score(Words(), "red apple", ["apple", "red apple", "green"], priority=2)
    assert compared.result == pytest.approx([0.5**0.5, 1, 0])
    assert compared.tokens == len("red appleapplered applegreen")


async def test_a_text_gets_the_labels_that_are_nearest_to_it() -> None:
    labels = [
        Label("fruit", ("apple", "pear")),
        Label("colour", ("red", "green")),
        Label("empty", ("", "")),
        Label("pear"),
    ]
    words = Words()
    compared = await classify(
        words, ["apple", "red red pear"], labels, temperature=0.1, top=0, priority=1
    )
    apple, pear = compared.result
    assert [label.label for label in apple] == ["fruit", "colour", "empty", "pear"]
    assert [label.label for label in pear] == ["colour", "pear", "fruit", "empty"]
    # The mean of two vectors at right angles is at 45 degrees to both.
    assert apple[0].score == pytest.approx(0.5**0.5)
    assert sum(label.share for label in apple) == pytest.approx(1)
    assert apple[0].share / apple[1].share == pytest.approx(np.exp(0.5**0.5 / 0.1), rel=1e-4)
    assert words.asked[0][1].priority == 1
    (best,) = (await classify(words, ["x"], labels, temperature=1, top=1, priority=0)).result
    assert len(best) == 1


async def test_documents_are_ranked_by_their_best_passage() -> None:
    long = "nothing to see here. " * 5 + "the red apple. " + "more of the same. " * 5
    documents = [Document("a", "green"), Document("b", "red pear"), Document("c", long)]
    words = Words()
    compared = await rerank(words, "red apple", documents, top=2, priority=0)
    assert [(place.index, round(place.score, 3)) for place in compared.result] == [
        (2, 0.535),
        (1, 0.5),
    ]
    (query, asked), (passages, found) = words.asked
    assert (query, asked.role, found.role) == (["red apple"], Role.QUERY, Role.DOCUMENT)
    assert len(passages) > 5


async def test_long_documents_are_compared_part_by_part() -> None:
    # Without spaces, as Chinese is written: each passage has 32 characters.
    documents = [
        Document("a", "語" * 32 * 700),
        Document("b", f"{'語' * 32 * 600} apple {'語' * 32 * 100}"),
    ]
    words = Words()
    compared = await rerank(words, "apple", documents, top=0, priority=0)
    assert [place.index for place in compared.result] == [1, 0]
    parts = [len(texts) for texts, _ in words.asked]
    assert parts == [1, 512, 512, sum(parts) - 1025]
    assert compared.tokens == sum(len(text) for texts, _ in words.asked for text in texts)


async def test_equal_documents_keep_their_order() -> None:
    documents = [Document(str(index), "same") for index in range(20)]
    ranked = (await rerank(Words(), "same", documents, top=0, priority=0)).result
    assert [place.index for place in ranked] == list(range(20))


@pytest.mark.parametrize(
    ("text", "passages"),
    [
        ("Short.", ["Short."]),
        ("One two three. Four five six. Seven.", ["One two three. Four five six.", "Seven."]),
        ("x" * 70, ["x" * 32, "x" * 32, "x" * 6]),
        ("aaaa " * 10, ["aaaa aaaa aaaa aaaa aaaa aaaa", "aaaa aaaa aaaa aaaa"]),
        (" " * 100, [""]),
    ],
)
def test_a_long_text_is_cut_into_passages(text: str, passages: list[str]) -> None:
    assert passages_of(text, 8) == passages


def test_no_word_is_lost_between_passages() -> None:
    text = " ".join(f"word{number}{'.' if number % 7 == 0 else ''}" for number in range(400))
    passages = passages_of(text, 16)
    assert " ".join(passages).split() == text.split()
    assert max(map(len, passages)) <= 64
