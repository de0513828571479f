"""What the domain needs from the outside, and what its parts need from each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from model_svc.running.plan import Pooling
from model_svc.running.statistics import NO_TIME, Statistics, Timings
from model_svc.tensors import Tensor, TensorSpec, Vectors


@dataclass(frozen=True, slots=True)
class Ran:
    """How a call was carried out.

    Attributes:
        timings: Where its time went.
        batch_items: Texts, or calls, in the largest batch that it was part of; 0 if nothing
            was run for it.
        device: Where it ran, `cpu` or `gpu`.
        cached: Whether the answer came from the cache.
    """

    timings: Timings = NO_TIME
    batch_items: int = 0
    device: str = "cpu"
    cached: bool = False


NOT_RUN: Final = Ran()


class Role(StrEnum):
    """What a text is for; models may have been trained with a prefix for each."""

    QUERY = "query"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How texts are to be embedded.

    Attributes:
        pooling: None for the model's own.
        normalize: Whether vectors are to have length 1; None for what the model does.
        dimensions: Of the vectors, the first so many are kept, which makes sense for models
            that were trained for it; 0 for all.
        truncate: Whether longer texts are cut to the model's input; otherwise refused.
        prefix: Put before each text.
        role: Whose prefix, of the model's own, is put before each text; None for none's.
        priority: From 1, the highest; 0 for the model's default.
        timeout_seconds: How long it may wait for a run; None for the model's default.
    """

    pooling: Pooling | None = None
    normalize: bool | None = None
    dimensions: int = 0
    truncate: bool = True
    prefix: str = ""
    role: Role | None = None
    priority: int = 0
    timeout_seconds: float | None = None


DEFAULT_OPTIONS: Final = EmbedOptions()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors of some texts.

    Attributes:
        vectors: [texts, dimension], in the order of the texts.
        tokens: Tokens read, without padding.
        truncated: How many of the texts were cut to the model's input.
        ran: How the call was carried out.
    """

    vectors: Vectors
    tokens: int
    truncated: int
    ran: Ran = NOT_RUN


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of one text.

    Attributes:
        ids: Their ids.
        tokens: What they stand for, as the vocabulary writes it.
        offsets: Of each, where it begins and ends in the text, in characters; both 0 for
            tokens that are not of the text.
    """

    ids: Sequence[int]
    tokens: Sequence[str]
    offsets: Sequence[tuple[int, int]]


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def dimension(self) -> int:
        """Length of each vector."""

    async def embed(
        self, texts: Sequence[str], options: EmbedOptions = DEFAULT_OPTIONS
    ) -> Embeddings:
        """Returns the vectors of the texts.

        Raises:
            StepwireError: MODEL_INPUT_INVALID, OVERLOADED or DEADLINE_EXCEEDED.
        """


class TextModel(Embedder, Protocol):
    """An embedder that also tells its tokens."""

    @property
    def max_tokens(self) -> int:
        """Longest input, special tokens included."""

    @property
    def matryoshka_dimensions(self) -> Sequence[int]:
        """Lengths to which it was trained to have its vectors shortened, the smallest first."""

    @property
    def fallback(self) -> str:
        """Why it does not run where it was to run; empty if it does."""

    async def tokenize(self, texts: Sequence[str], *, special: bool) -> Sequence[TokenizedText]:
        """Returns the tokens of the texts, all of them: nothing is cut.

        Args:
            texts: The texts.
            special: Whether the tokens that the model puts around a text are added.
        """


@dataclass(frozen=True, slots=True)
class InferCall:
    """A call of a model, tensor by tensor.

    Attributes:
        inputs: One of the model's `input_sets`, with the datatypes and shapes of `inputs`.
        outputs: Names out of its `outputs`.
        priority: From 1, the highest; 0 for the model's default.
        timeout_seconds: How long it may wait for a run; None for the model's default.
    """

    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    priority: int = 0
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Inferred:
    """The answer to an `InferCall`: one tensor per output that was asked for."""

    tensors: Sequence[Tensor]
    ran: Ran = NOT_RUN


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

    @property
    def device(self) -> str:
        """Where it runs now, `cpu` or `gpu`."""

    @property
    def fallback(self) -> str:
        """Why it does not run where it was to run; empty if it does."""

    @property
    def max_batch_rows(self) -> int:
        """Up to how many rows its calls run together; 0 for those that run one by one."""

    @property
    def statistics(self) -> Statistics:
        """What it has done since it was loaded."""

    async def infer(self, call: InferCall) -> Inferred:
        """Runs the model.

        Raises:
            StepwireError: MODEL_INPUT_INVALID, OVERLOADED, DEADLINE_EXCEEDED, or
                DEPENDENCY_UNAVAILABLE once it is being closed.
        """

    def interrupt(self) -> None:
        """Has the runs under way, and all later ones, end soon, as failures."""

    async def close(self) -> None:
        """Takes no more calls, waits for those that it has, and lets go of the model."""


class BatchObserver(Protocol):
    """Is told about the batches that ran."""

    def batch_ran(
        self,
        *,
        items: int,
        size: int,
        padded_size: int,
        full: int,
        wait_seconds: float,
        seconds: float,
        device: str,
        failed: bool,
    ) -> None:
        """One batch was run.

        Args:
            items: How many texts, or calls, it had.
            size: Their tokens, or rows.
            padded_size: The same with padding.
            full: The size that fills a batch where this one was made; 0 if nothing does.
            wait_seconds: How long the one waited that waited longest.
            seconds: How long it ran.
            device: Where it ran; if it failed, where it was to.
            failed: Whether it, or a part of it, failed.
        """
