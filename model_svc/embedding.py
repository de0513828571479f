"""The sentence encoder: texts, or token ids, to vectors."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import numpy as np
from opentelemetry.trace import get_current_span

from model_svc.batching import TokenBatcher
from model_svc.faults import tensor_invalid
from model_svc.metrics import TEXTS, TOKENS
from model_svc.ports import Embeddings
from model_svc.sessions import PLATFORM, Runner
from model_svc.tensors import BYTES, Tensor, TensorSpec, Tokens
from model_svc.tokenize import TextTokenizer, TokenizedTexts
from stepwire.call import current_call
from stepwire.telemetry import tracer

TEXT: Final = "text"
INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
SENTENCE_EMBEDDING: Final = "sentence_embedding"

# Up to this much text is tokenized on the event loop, in about 0.3 ms at most: the way to
# a thread and back costs more than the usual sentence.
_INLINE_CHARACTERS: Final = 1_000


class EmbeddingModel:
    """A `Model` and an `Embedder` over one batcher: calls of both kinds share batches."""

    def __init__(
        self,
        name: str,
        *,
        tokenizer: TextTokenizer,
        tokenizer_thread: Runner,
        batcher: TokenBatcher,
        dimension: int,
        vocabulary: int,
        positions: int,
    ) -> None:
        """Serves an encoder.

        Args:
            name: The model's name.
            tokenizer: Turns texts into token ids.
            tokenizer_thread: Where it does so for longer texts.
            batcher: Runs the encoder.
            dimension: Length of the vectors.
            vocabulary: Number of different token ids.
            positions: Longest row of token ids that the encoder can read.
        """
        self._name = name
        self._tokenizer = tokenizer
        self._tokenizer_thread = tokenizer_thread
        self._batcher = batcher
        self._dimension = dimension
        self._vocabulary = vocabulary
        self._positions = positions

    @property
    def platform(self) -> str:
        """See `Model`."""
        return PLATFORM

    @property
    def dimension(self) -> int:
        """See `Embedder`."""
        return self._dimension

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """See `Model`."""
        return [
            TensorSpec(INPUT_IDS, "INT64", ("batch", "sequence")),
            TensorSpec(ATTENTION_MASK, "INT64", ("batch", "sequence")),
            TensorSpec(TEXT, BYTES, ("batch",)),
        ]

    @property
    def input_sets(self) -> Sequence[frozenset[str]]:
        """Token ids with their mask, or texts."""
        return [frozenset({INPUT_IDS, ATTENTION_MASK}), frozenset({TEXT})]

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """See `Model`."""
        return [TensorSpec(SENTENCE_EMBEDDING, "FP32", ("batch", self._dimension))]

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """See `Embedder`."""
        tokenized = await self._tokenize(texts)
        tokens = tokenized.tokens
        with _span("model.infer", {TEXTS: len(texts), TOKENS: tokens}):
            vectors = await self._batcher.run(tokenized.rows, deadline=current_call().deadline)
        return Embeddings(vectors, tokens, tokenized.truncated)

    async def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """See `Model`; texts and rows of token ids are at least one."""
        if TEXT in inputs:
            vectors = (await self.embed(self._texts(inputs[TEXT]))).vectors
        else:
            rows = self._rows(inputs[INPUT_IDS], inputs[ATTENTION_MASK])
            vectors = await self._batcher.run(rows, deadline=current_call().deadline)
        return [vectors for _ in outputs]

    async def _tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        with _span("model.tokenize", {TEXTS: len(texts)}):
            if sum(map(len, texts)) <= _INLINE_CHARACTERS:
                return self._tokenizer.encode(texts)
            return await self._tokenizer_thread.run(self._tokenizer.encode, texts)

    def _texts(self, tensor: Tensor) -> list[str]:
        if len(tensor) == 0:
            raise tensor_invalid(self._name, TEXT, "must have at least one text")
        try:
            return [text.decode() for text in tensor]
        except UnicodeDecodeError as error:
            raise tensor_invalid(self._name, TEXT, f"must be UTF-8: {error}") from error

    def _rows(self, ids: Tensor, mask: Tensor) -> list[Tokens]:
        """The rows of token ids without their padding."""
        if ids.size == 0:
            raise tensor_invalid(self._name, INPUT_IDS, "must have at least one token")
        if ids.shape[1] > self._positions:
            raise tensor_invalid(
                self._name, INPUT_IDS, f"at most {self._positions} tokens fit in a row"
            )
        if ids.min() < 0 or ids.max() >= self._vocabulary:
            raise tensor_invalid(
                self._name, INPUT_IDS, f"token ids must be from 0 to {self._vocabulary - 1}"
            )
        lengths = np.count_nonzero(mask, axis=1)
        expected = np.arange(ids.shape[1]) < lengths[:, np.newaxis]
        if lengths.min() == 0 or not np.array_equal(mask, expected):
            raise tensor_invalid(
                self._name,
                ATTENTION_MASK,
                "each row must be ones, at least one, and then zeros: padding stands at the end",
            )
        return [row[:length] for row, length in zip(ids, lengths.tolist(), strict=True)]


def _span(name: str, attributes: Mapping[str, int]) -> AbstractContextManager[object]:
    """A span within the current one; none, at no cost, if that is not recorded."""
    if not get_current_span().is_recording():
        return nullcontext()
    return tracer().start_as_current_span(name, attributes=attributes)
