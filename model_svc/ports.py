"""What the domain needs from the outside, and what its parts need from each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from model_svc.tensors import Tensor, TensorSpec, Tokens, Vectors


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors of some texts.

    Attributes:
        vectors: [texts, dimension], in the order of the texts.
        tokens: Tokens read, without padding.
        truncated: How many of the texts were cut to the model's input.
    """

    vectors: Vectors
    tokens: int
    truncated: int


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def dimension(self) -> int:
        """Length of each vector."""

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Returns the vectors of the texts.

        Raises:
            StepwireError: OVERLOADED or DEADLINE_EXCEEDED.
        """


class Model(Protocol):
    """A model that is called tensor by tensor."""

    @property
    def platform(self) -> str:
        """The framework it runs on, such as `onnxruntime_onnx`."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """The tensors that it can be given."""

    @property
    def input_sets(self) -> Sequence[frozenset[str]]:
        """The names that may be given together: a call must give exactly one of the sets."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """The tensors that it gives."""

    async def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Runs the model.

        Args:
            inputs: One of `input_sets`, with the datatypes and shapes of `inputs`.
            outputs: Names out of `outputs`.

        Returns:
            One tensor per name of `outputs`.

        Raises:
            StepwireError: MODEL_INPUT_INVALID, OVERLOADED or DEADLINE_EXCEEDED.
        """


class Encode(Protocol):
    """Runs a sentence encoder on one batch of token rows."""

    async def __call__(self, rows: Sequence[Tokens]) -> Vectors:
        """Returns one vector per row: [rows, dimension]."""


class BatchObserver(Protocol):
    """Is told about the batches that ran."""

    def batch_ran(
        self, *, texts: int, tokens: int, padded_tokens: int, wait_seconds: float, seconds: float
    ) -> None:
        """One batch was run.

        Args:
            texts: How many texts it had.
            tokens: Their tokens.
            padded_tokens: Its texts times its longest text.
            wait_seconds: How long the text waited that waited longest.
            seconds: How long it ran.
        """
