"""What turns text into vectors, and compares texts."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from vector_svc.engine.records import Matrix


class Embedder(Protocol):
    """Models that turn text into vectors."""

    def embed(self, model: str, texts: Sequence[str]) -> Awaitable[Matrix]:
        """Return a row of float32 values for each text.

        Raises:
            StepwireError: what the model service says; DEPENDENCY_UNAVAILABLE when it does
                not answer.
        """
        ...


class Reranker(Protocol):
    """Models that compare texts with a query."""

    def rerank(self, model: str, query: str, texts: Sequence[str]) -> Awaitable[list[float]]:
        """Return the likeness of each text to the query, from -1 to 1.

        Args:
            model: Which; "" for the model service's default.
            query: What the texts are compared with.
            texts: At most 256, together at most 1,000,000 characters.

        Raises:
            StepwireError: As `Embedder.embed`.
        """
        ...
