"""What the service needs of a model that writes text."""

from collections.abc import AsyncGenerator
from typing import Protocol

from model_svc.generation.records import Ended, GenerateCall
from model_svc.ports import Model


class TextGenerator(Protocol):
    """Writes texts."""

    @property
    def context(self) -> int:
        """Tokens of a prompt and its continuation together, at most."""

    @property
    def fallback(self) -> str:
        """Why it does not run where it was to run; empty if it does."""

    def generate(self, call: GenerateCall) -> AsyncGenerator[str | Ended]:
        """Yields a text in pieces as they are written, and last its end.

        Closing it ends the writing, at the next token.

        Raises:
            StepwireError: PROMPT_TOO_LONG, MODEL_INPUT_INVALID, OVERLOADED, DEADLINE_EXCEEDED,
                or DEPENDENCY_UNAVAILABLE if the model's process died.
        """


class GeneratorModel(Model, TextGenerator, Protocol):
    """A model that writes texts, and is also called tensor by tensor."""
