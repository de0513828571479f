"""An encoder: texts, or token ids, to vectors."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
from opentelemetry.trace import get_current_span

from model_svc.encoder import Row
from model_svc.export.tensor_names import ATTENTION_MASK, INPUT_IDS, OUTPUT
from model_svc.faults import input_invalid, tensor_invalid
from model_svc.metrics import TEXTS, TOKENS, ModelMetrics
from model_svc.ports import (
    DEFAULT_OPTIONS,
    Embeddings,
    EmbedOptions,
    InferCall,
    Inferred,
    Ran,
    Role,
    TokenizedText,
)
from model_svc.readouts import Readout, Readouts, shortened
from model_svc.rows import check_rows
from model_svc.running.answers import Answers
from model_svc.running.batcher import Batcher, Outcome
from model_svc.running.execute import RefusedError
from model_svc.running.statistics import Statistics, Timings
from model_svc.sessions.engine import Engine
from model_svc.sessions.runner import Runner
from model_svc.sessions.session import PLATFORM
from model_svc.tensors import BYTES, Tensor, TensorSpec, Tokens, Vectors
from model_svc.tokenize import TextTokenizer, TokenizedTexts
from stepwire.telemetry import tracer

TEXT: Final = "text"

# Up to this much text is tokenized on the event loop, in about 0.3 ms at most: the way to
# a thread and back costs more than the usual sentence.
_INLINE_CHARACTERS: Final = 1_000


class EmbeddingModel:
    """A `Model` and a `TextModel` over one batcher: calls of all kinds share batches."""

    max_batch_rows = 0

    def __init__(
        self,
        name: str,
        *,
        tokenizer: TextTokenizer,
        engine: Engine,
        batcher: Batcher,
        metrics: ModelMetrics,
        readouts: Readouts,
        prefixes: Mapping[Role | None, str],
        dimension: int,
        matryoshka_dimensions: Sequence[int],
        vocabulary: int,
        positions: int,
        tokenizer_threads: Runner,
        runner: Runner,
        answers: Answers[Embeddings] | None = None,
    ) -> None:
        """Serves an encoder.

        Args:
            name: The model's name.
            tokenizer: Turns texts into token ids.
            engine: The encoder.
            batcher: Runs it.
            metrics: Measures it.
            readouts: How its vectors can be read.
            prefixes: What it was trained to find before texts.
            dimension: Length of the vectors.
            matryoshka_dimensions: Lengths to which it was trained to have them shortened.
            vocabulary: Number of different token ids; 0 if unknown.
            positions: Longest row of token ids that it can read.
            tokenizer_threads: Where longer texts are tokenized; closed by its owner.
            runner: The threads that run it; closed with the model.
            answers: Those that are kept; None if none are.
        """
        self._name = name
        self._tokenizer = tokenizer
        self._engine = engine
        self._batcher = batcher
        self._metrics = metrics
        self._readouts = readouts
        self._prefixes = prefixes
        self._dimension = dimension
        self._matryoshka = sorted(
            {length for length in matryoshka_dimensions if length <= dimension}
        )
        self._vocabulary = vocabulary
        self._positions = positions
        self._tokenizer_threads = tokenizer_threads
        self._runner = runner
        self._answers = answers

    @property
    def platform(self) -> str:
        """See `Model`."""
        return PLATFORM

    @property
    def dimension(self) -> int:
        """See `Embedder`."""
        return self._dimension

    @property
    def matryoshka_dimensions(self) -> Sequence[int]:
        """See `TextModel`."""
        return self._matryoshka

    @property
    def max_tokens(self) -> int:
        """See `TextModel`."""
        return self._tokenizer.max_tokens

    @property
    def device(self) -> str:
        """See `Model`."""
        return self._engine.device

    @property
    def fallback(self) -> str:
        """See `Model`."""
        return self._engine.fallback

    @property
    def statistics(self) -> Statistics:
        """See `Model`."""
        return self._metrics.statistics

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
        return [TensorSpec(OUTPUT, "FP32", ("batch", self._dimension))]

    async def embed(
        self, texts: Sequence[str], options: EmbedOptions = DEFAULT_OPTIONS
    ) -> Embeddings:
        """See `Embedder`."""
        with self.statistics.counting_failure():
            readout = self._readout(options)
            if self._answers is None:
                return await self._embed(texts, options, readout)
            answer, cached = await self._answers.answer(
                digest_of(texts, options), lambda: self._embed(texts, options, readout)
            )
        return replace(answer, ran=Ran(device=answer.ran.device, cached=True)) if cached else answer

    async def tokenize(self, texts: Sequence[str], *, special: bool) -> Sequence[TokenizedText]:
        """See `TextModel`."""
        work = partial(self._tokenizer.tokenize, texts, special=special)
        return work() if _are_short(texts) else await self._tokenizer_threads.run(work)

    async def infer(self, call: InferCall) -> Inferred:
        """See `Model`; texts and rows of token ids are at least one."""
        if TEXT in call.inputs:
            options = EmbedOptions(priority=call.priority, timeout_seconds=call.timeout_seconds)
            embedded = await self.embed(self._texts(call.inputs[TEXT]), options)
            return Inferred([embedded.vectors for _ in call.outputs], embedded.ran)
        with self.statistics.counting_failure():
            rows = check_rows(
                self._name,
                call.inputs[INPUT_IDS],
                call.inputs[ATTENTION_MASK],
                vocabulary=self._vocabulary,
                positions=self._positions,
            )
            outcome = await self._run(
                rows,
                self._readouts.own,
                priority=call.priority,
                timeout_seconds=call.timeout_seconds,
            )
        vectors = _stacked(outcome.results)
        return Inferred([vectors for _ in call.outputs], self._answered(outcome, 0.0))

    def interrupt(self) -> None:
        """See `Model`."""
        self._engine.interrupt()

    async def close(self) -> None:
        """See `Model`."""
        await self._batcher.close()
        self._runner.close()
        self._engine.close()

    async def _embed(
        self, texts: Sequence[str], options: EmbedOptions, readout: Readout
    ) -> Embeddings:
        began = time.monotonic()
        if prefix := options.prefix or self._prefixes.get(options.role, ""):
            texts = [prefix + text for text in texts]
        tokenized = await self._tokenized(texts)
        if tokenized.truncated and not options.truncate:
            raise input_invalid(
                self._name,
                f"text {tokenized.truncated[0]} has more than {self.max_tokens} tokens",
            )
        seconds = time.monotonic() - began
        tokens = tokenized.tokens
        with _span("model.infer", {TEXTS: len(texts), TOKENS: tokens}):
            outcome = await self._run(
                tokenized.rows,
                readout,
                priority=options.priority,
                timeout_seconds=options.timeout_seconds,
            )
        vectors = _stacked(outcome.results)
        if options.dimensions:
            vectors = shortened(vectors, options, self._readouts)
        ran = self._answered(outcome, seconds)
        return Embeddings(vectors, tokens, len(tokenized.truncated), ran)

    async def _run(
        self,
        rows: Sequence[Tokens],
        readout: Readout,
        *,
        priority: int,
        timeout_seconds: float | None = None,
    ) -> Outcome:
        try:
            return await self._batcher.run(
                [(Row(row, readout), len(row), len(row)) for row in rows],
                priority=priority,
                timeout_seconds=timeout_seconds,
            )
        except RefusedError as error:
            raise input_invalid(self._name, str(error)) from error

    def _answered(self, outcome: Outcome, tokenize_seconds: float) -> Ran:
        timings = Timings(outcome.queue_seconds, tokenize_seconds, outcome.compute_seconds)
        self.statistics.call_answered(timings)
        return Ran(timings, outcome.batch_items, outcome.device)

    async def _tokenized(self, texts: Sequence[str]) -> TokenizedTexts:
        with _span("model.tokenize", {TEXTS: len(texts)}):
            if _are_short(texts):
                return self._tokenizer.encode(texts)
            return await self._tokenizer_threads.run(self._tokenizer.encode, texts)

    def _readout(self, options: EmbedOptions) -> Readout:
        if options.dimensions > self._dimension:
            raise input_invalid(self._name, f"vectors have only {self._dimension} dimensions")
        try:
            return self._readouts.find(options)
        except ValueError as error:
            raise input_invalid(self._name, str(error)) from error

    def _texts(self, tensor: Tensor) -> list[str]:
        if len(tensor) == 0:
            raise tensor_invalid(self._name, TEXT, "must have at least one text")
        try:
            return [text.decode() for text in tensor]
        except UnicodeDecodeError as error:
            raise tensor_invalid(self._name, TEXT, f"must be UTF-8: {error}") from error


def _stacked(rows: Sequence[Vectors]) -> Vectors:
    """Rows as one tensor; of a single one without a copy."""
    return rows[0][np.newaxis] if len(rows) == 1 else np.stack(rows)


def digest_of(texts: Sequence[str], options: EmbedOptions) -> bytes:
    """Returns what is the same for calls that have the same answer."""
    asked = replace(options, priority=0, timeout_seconds=None)
    digest = hashlib.blake2b(repr(asked).encode(), digest_size=32)
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.digest()


def size_of(embeddings: Embeddings) -> int:
    """Returns the bytes that an answer takes."""
    return embeddings.vectors.nbytes


def _are_short(texts: Sequence[str]) -> bool:
    """Whether texts are tokenized on the event loop."""
    return sum(map(len, texts)) <= _INLINE_CHARACTERS


def _span(name: str, attributes: Mapping[str, int]) -> AbstractContextManager[object]:
    """A span within the current one; none, at no cost, if that is not recorded."""
    if not get_current_span().is_recording():
        return nullcontext()
    return tracer().start_as_current_span(name, attributes=attributes)
