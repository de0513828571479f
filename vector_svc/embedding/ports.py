"""What turns text into vectors."""

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
