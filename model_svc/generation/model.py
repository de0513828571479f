"""A model that writes text, token by token."""

import itertools
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Final

import numpy as np

from model_svc.faults import input_invalid, tensor_invalid
from model_svc.generation.metrics import GenerationMetrics
from model_svc.generation.process import DecoderDiedError, DecoderProcess
from model_svc.generation.records import Ended, Finish, GenerateCall, Sampling, prompt_fault
from model_svc.generation.stops import StopScanner
from model_svc.metrics import ModelMetrics
from model_svc.ports import InferCall, Inferred, Ran
from model_svc.running.batcher import Batcher, Outcome
from model_svc.running.execute import Executed
from model_svc.running.statistics import Statistics, Timings
from model_svc.sessions.runner import Runner
from model_svc.tensors import BYTES, Tensor, TensorSpec
from stepwire.errors import Reason, StepwireError

PLATFORM: Final = "onnxruntime_genai"
TEXT_INPUT: Final = "text_input"
TEXT_OUTPUT: Final = "text_output"

_RETRY_AFTER: Final = timedelta(seconds=1)
_MICROSECONDS: Final = 1_000_000

_Json = Mapping[str, Any]


class TokenExecute:
    """An `Execute` over a model's process: a question gives its answer. One at a time."""

    def __init__(self, process: DecoderProcess, runner: Runner) -> None:
        self._process = process
        self._runner = runner

    async def __call__(self, payloads: Sequence[_Json], *, alone: bool) -> Executed:  # noqa: ARG002
        """See `Execute`; the process has the same threads for all."""
        (asked,) = payloads
        answer = await self._runner.run(self._process.ask, asked)
        return Executed([answer], self._process.device)


class _Text:
    """One text under way: where its time went, and how far it is."""

    def __init__(self, number: int, call: GenerateCall) -> None:
        self.number = number
        self.call = call
        self.began = time.monotonic()
        self.input_tokens = self.output_tokens = 0
        self.first_token_seconds = self.queue = self.tokenize = self.compute = 0.0
        self.device = ""

    def took(self, outcome: Outcome) -> None:
        self.queue += outcome.queue_seconds
        self.compute += outcome.compute_seconds
        self.device = outcome.device

    def ended(self, finish: Finish) -> Ended:
        timings = Timings(self.queue, self.tokenize, self.compute - self.tokenize)
        return Ended(
            finish,
            self.input_tokens,
            self.output_tokens,
            self.first_token_seconds,
            Ran(timings, 1, self.device),
        )


class GenerationModel:
    """A `GeneratorModel`. Each token is a run of its own, so that calls take turns."""

    platform = PLATFORM
    max_batch_rows = 0

    def __init__(
        self,
        name: str,
        *,
        process: DecoderProcess,
        batcher: Batcher,
        metrics: ModelMetrics,
        generation: GenerationMetrics,
        runner: Runner,
        max_texts: int,
    ) -> None:
        """Serves a model.

        Args:
            name: The model's name.
            process: The model; closed with this.
            batcher: Runs it.
            metrics: Measures its runs.
            generation: Measures its texts.
            runner: The thread that waits for the process; closed with the model.
            max_texts: How many it writes at a time.
        """
        self._name = name
        self._process = process
        self._batcher = batcher
        self._metrics = metrics
        self._generation = generation
        self._runner = runner
        self._max_texts = max_texts
        self._numbers = itertools.count(1)
        self._writing = 0
        self.inputs = [TensorSpec(TEXT_INPUT, BYTES, (1,))]
        self.input_sets = [frozenset({TEXT_INPUT})]
        self.outputs = [TensorSpec(TEXT_OUTPUT, BYTES, (1,))]

    @property
    def device(self) -> str:
        """See `Model`."""
        return self._process.device

    @property
    def context(self) -> int:
        """See `TextGenerator`."""
        return self._process.context

    @property
    def fallback(self) -> str:
        """See `Model`."""
        return self._process.fallback

    @property
    def statistics(self) -> Statistics:
        """See `Model`."""
        return self._metrics.statistics

    async def generate(self, call: GenerateCall) -> AsyncGenerator[str | Ended]:
        """See `TextGenerator`."""
        if self._writing >= self._max_texts:
            raise StepwireError(
                Reason.OVERLOADED,
                f"model {self._name}: it writes {self._max_texts} texts at a time",
                metadata={"limit": str(self._max_texts), "model": self._name},
                retry_after=_RETRY_AFTER,
            )
        text = _Text(next(self._numbers), call)
        self._writing += 1
        try:
            with self.statistics.counting_failure():
                await self._begin(text)
                async with aclosing(self._write(text)) as pieces:
                    async for piece in pieces:
                        yield piece
        except BaseException as error:
            self._generation.broken_off(error)
            raise
        finally:
            self._writing -= 1
            self._runner.submit(self._process.drop, text.number)

    async def infer(self, call: InferCall) -> Inferred:
        """See `Model`: the continuation of one text, chosen as the model's own files say."""
        try:
            prompt = call.inputs[TEXT_INPUT][0].decode()
        except UnicodeDecodeError as error:
            raise tensor_invalid(self._name, TEXT_INPUT, f"must be UTF-8: {error}") from error
        if fault := prompt_fault(prompt) or ("" if prompt else "must not be empty"):
            raise tensor_invalid(self._name, TEXT_INPUT, fault)
        wanted = GenerateCall(prompt, priority=call.priority, timeout_seconds=call.timeout_seconds)
        parts: list[str] = []
        ran = Ran()
        async with aclosing(self.generate(wanted)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Ended):
                    ran = piece.ran
                else:
                    parts.append(piece)
        written: Tensor = np.array(["".join(parts).encode()], dtype=object)
        return Inferred([written for _ in call.outputs], ran)

    def interrupt(self) -> None:
        """See `Model`; its process ends with them."""
        self._process.kill()

    async def close(self) -> None:
        """See `Model`."""
        await self._batcher.close()
        await self._runner.run(self._process.close)
        self._runner.close()

    async def _begin(self, text: _Text) -> None:
        """Has the prompt read."""
        call = text.call
        answer = await self._ask(
            text,
            do="begin",
            prompt=call.prompt,
            messages=[{"role": said.role, "content": said.text} for said in call.messages],
            max_tokens=call.max_tokens,
            search=_search(call.sampling),
        )
        if "too_long" in answer:
            tokens, limit = answer["too_long"], self._process.context
            raise StepwireError(
                Reason.PROMPT_TOO_LONG,
                f"model {self._name}: the prompt has {tokens} tokens, must have fewer than {limit}",
                metadata={"model": self._name, "tokens": str(tokens), "limit": str(limit)},
            )
        text.input_tokens = answer["input_tokens"]
        text.tokenize = answer["tokenize_us"] / _MICROSECONDS
        self._generation.read(text.input_tokens)

    async def _write(self, text: _Text) -> AsyncGenerator[str | Ended]:
        """Has one token after the other written."""
        scanner = StopScanner(text.call.stop)
        finish = None
        while finish is None:
            answer = await self._ask(text, do="next")
            self._count(text)
            piece = scanner.feed(answer["text"])
            if scanner.hit:
                finish = Finish.STOP
            elif answer["finish"]:
                finish = Finish(answer["finish"])
                piece += scanner.flush()
            if piece:
                yield piece
        end = text.ended(finish)
        self.statistics.call_answered(end.ran.timings)
        self._generation.ended(end)
        yield end

    def _count(self, text: _Text) -> None:
        text.output_tokens += 1
        first = text.output_tokens == 1
        if first:
            text.first_token_seconds = time.monotonic() - text.began
        self._generation.wrote(text.first_token_seconds if first else None)

    async def _ask(self, text: _Text, **asked: Any) -> _Json:
        try:
            outcome = await self._batcher.run(
                [({"id": text.number, **asked}, 1, text.number)],
                priority=text.call.priority,
                timeout_seconds=text.call.timeout_seconds,
            )
        except DecoderDiedError as error:
            raise self._died(str(error)) from error
        text.took(outcome)
        answer: _Json = outcome.results[0]
        if "unknown" in answer:
            raise self._died(f"model {self._name}: its process died and was started again")
        if "refused" in answer:
            raise input_invalid(self._name, str(answer["refused"]))
        return answer

    def _died(self, message: str) -> StepwireError:
        return StepwireError(
            Reason.DEPENDENCY_UNAVAILABLE, message, metadata={"dependency": self._name}
        )


def _search(sampling: Sampling) -> dict[str, Any]:
    """The settings of a search by onnxruntime-genai's names."""
    given = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "random_seed": sampling.seed,
    }
    search: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if sampling.temperature is not None:
        search["do_sample"] = sampling.temperature > 0
        if not sampling.temperature:
            # It is divided by, and nothing is drawn.
            del search["temperature"]
    return search
