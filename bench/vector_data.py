"""Clustered vectors with payloads and texts, and what is nearest to queries among them."""

from typing import Any

import numpy as np

DIMENSION = 384
LIMIT = 10
QUERIES = 500
CLUSTER_ROWS = 100
NOISE = 0.6
VOCABULARY = 20_000
TEXT_WORDS = 30
# Share of points that a filter leaves, in percent, and the payload field that says so.
FILTERS = {"50": ("half", 2), "10": ("tenth", 10), "1": ("hundredth", 100), "0.1": ("mille", 1_000)}


class Data:
    """Vectors around centres, queries around the same ones, texts with words by Zipf's law."""

    def __init__(self, rows: int) -> None:
        random = np.random.default_rng(11)
        self.rows = rows
        centres = random.standard_normal((max(10, rows // CLUSTER_ROWS), DIMENSION), dtype="f4")

        def draw(count: int) -> Any:
            noise = random.standard_normal((count, DIMENSION), dtype="f4")
            return (centres[random.integers(0, len(centres), count)] + NOISE * noise).astype("<f4")

        self.vectors, self.queries = draw(rows), draw(QUERIES)
        share = 1 / np.arange(1, VOCABULARY + 1)
        share /= share.sum()
        self._words = random.choice(VOCABULARY, (rows, TEXT_WORDS), p=share)
        # Two middling words and a rare one, as people ask.
        self._asked = np.stack(
            [
                random.integers(20, 500, QUERIES),
                random.integers(20, 500, QUERIES),
                random.integers(500, 5_000, QUERIES),
            ],
            axis=1,
        )

    def payload(self, row: int) -> dict[str, Any]:
        fields: dict[str, Any] = {name: row % modulus for name, modulus in FILTERS.values()}
        fields["text"] = " ".join(f"w{word}" for word in self._words[row])
        return fields

    def words(self, query: int) -> str:
        return " ".join(f"w{word}" for word in self._asked[query])

    def truth(self, modulus: int = 1) -> list[set[str]]:
        """The ids of the nearest to each query, among those whose field is 1."""
        rows = np.arange(1 % modulus, self.rows, modulus)
        unit = self.vectors[rows] / np.linalg.norm(self.vectors[rows], axis=1, keepdims=True)
        scores = self.queries @ unit.T
        best = np.argpartition(-scores, min(LIMIT, len(rows)) - 1, axis=1)[:, :LIMIT]
        return [{str(rows[column]) for column in line} for line in best]
