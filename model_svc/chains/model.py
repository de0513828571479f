"""An ensemble as a model: its tensors go from step to step within the process."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final

from model_svc.chains.steps import Step, needed_steps
from model_svc.faults import input_invalid
from model_svc.ports import InferCall, Inferred, Ran
from model_svc.repository.served import ServedModel
from model_svc.running.statistics import Statistics, Timings
from model_svc.tensors import BYTES, DTYPES, Tensor, TensorSpec

PLATFORM: Final = "ensemble"

# Gives a model, by name and version, for a block.
Use = Callable[[str, str], AbstractContextManager[ServedModel]]


@dataclass(frozen=True, slots=True)
class _Done:
    """What a step gave, by the ensemble's names, and how it ran."""

    tensors: Mapping[str, Tensor]
    ran: Ran


class ChainModel:
    """A `Model` that calls others. What they are is looked up at each call."""

    platform = PLATFORM
    device = "cpu"
    fallback = ""

    def __init__(
        self,
        name: str,
        *,
        steps: Sequence[Step],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        max_batch_rows: int,
        use: Use,
    ) -> None:
        """Makes an ensemble.

        Args:
            name: The model's name.
            steps: As `plan_steps` returns them.
            inputs: The tensors that it takes.
            outputs: The tensors that it gives.
            max_batch_rows: Most rows of a call; 0 if it has no batch dimension.
            use: Gives the models of the steps.
        """
        self._name = name
        self._steps = steps
        self._use = use
        self.inputs = inputs
        self.input_sets = [frozenset(spec.name for spec in inputs)]
        self.outputs = outputs
        self.max_batch_rows = max_batch_rows
        self.statistics = Statistics()

    async def infer(self, call: InferCall) -> Inferred:
        """See `Model`; timings are the sums of the steps'.

        Raises:
            StepwireError: As its models do; MODEL_NOT_FOUND or MODEL_NOT_READY of one of them.
        """
        start = time.monotonic()
        with self.statistics.counting_failure(), ExitStack() as stack:
            # All models before the first step, so that none changes between two steps.
            steps = [
                (step, stack.enter_context(self._use(step.model, step.version)))
                for step in needed_steps(self._steps, call.outputs)
            ]
            done = await self._run_all(steps, call)
            tensors = dict(call.inputs)
            for each in done:
                tensors |= each.tensors
            results = {name: tensors[name] for name in call.outputs}
            if fault := _tensors_fault("output", self.outputs, results):
                raise input_invalid(self._name, fault)
        rows = max((len(tensor) for tensor in results.values() if tensor.ndim), default=1)
        ran = _sum(each.ran for each in done)
        self.statistics.batch_ran(rows if self.max_batch_rows else 1, time.monotonic() - start)
        self.statistics.call_answered(ran.timings)
        return Inferred([results[name] for name in call.outputs], ran)

    def interrupt(self) -> None:
        """See `Model`; the runs are those of its models."""

    async def close(self) -> None:
        """See `Model`; there is nothing to let go of."""

    async def _run_all(
        self, steps: Sequence[tuple[Step, ServedModel]], call: InferCall
    ) -> list[_Done]:
        """Runs steps side by side where their tensors allow it."""
        producers: dict[str, asyncio.Task[_Done]] = {}
        tasks = []
        for step, served in steps:
            task = asyncio.create_task(self._run(step, served, call, dict(producers)))
            tasks.append(task)
            producers |= dict.fromkeys(step.outputs.values(), task)
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            # A step that fails leaves others behind; their models must not be let go of before.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self,
        step: Step,
        served: ServedModel,
        call: InferCall,
        producers: Mapping[str, asyncio.Task[_Done]],
    ) -> _Done:
        inputs = {}
        for name, source in step.inputs.items():
            if source in producers:
                inputs[name] = (await producers[source]).tensors[source]
            else:
                inputs[name] = call.inputs[source]
        self._check(step, served, inputs)
        inferred = await served.model.infer(
            InferCall(inputs, list(step.outputs), call.priority, call.timeout_seconds)
        )
        return _Done(dict(zip(step.outputs.values(), inferred.tensors, strict=True)), inferred.ran)

    def _check(self, step: Step, served: ServedModel, inputs: Mapping[str, Tensor]) -> None:
        """Refuses what the step's model cannot be given or asked for."""
        fault = (
            _kind_fault(served)
            or _names_fault(step, served)
            or _tensors_fault("input", served.inputs, inputs)
            or _rows_fault(served, inputs)
        )
        if fault:
            raise input_invalid(self._name, f"step {step.model}: {fault}")


def _kind_fault(served: ServedModel) -> str:
    return "it is an ensemble itself" if served.model.platform == PLATFORM else ""


def _names_fault(step: Step, served: ServedModel) -> str:
    outputs = {spec.name for spec in served.outputs}
    if set(step.inputs) not in served.model.input_sets:
        return f"its inputs are not {', '.join(sorted(step.inputs))}"
    if unknown := set(step.outputs) - outputs:
        return f"it has no output {', '.join(sorted(unknown))}"
    return ""


def _tensors_fault(kind: str, specs: Iterable[TensorSpec], tensors: Mapping[str, Tensor]) -> str:
    for spec in specs:
        tensor = tensors.get(spec.name)
        if tensor is None:
            continue
        wanted = object if spec.datatype == BYTES else DTYPES[spec.datatype]
        fits = len(spec.shape) == tensor.ndim and all(
            isinstance(wanted_size, str) or size == wanted_size
            for size, wanted_size in zip(tensor.shape, spec.shape, strict=True)
        )
        if tensor.dtype != wanted or not fits:
            return (
                f"{kind} {spec.name} would be {tensor.dtype} of shape {list(tensor.shape)}, must "
                f"be {spec.datatype} of shape {spec.wire_shape}"
            )
    return ""


def _rows_fault(served: ServedModel, inputs: Mapping[str, Tensor]) -> str:
    rows = {len(tensor) for tensor in inputs.values()} if served.max_rows else {0}
    if len(rows) > 1:
        return f"its inputs would have {sorted(rows)} rows, must have the same"
    if max(rows) > served.max_rows:
        return f"its inputs would have {max(rows)} rows, must have at most {served.max_rows}"
    return ""


def _sum(runs: Iterable[Ran]) -> Ran:
    runs = list(runs)
    return Ran(
        Timings(
            queue=sum(ran.timings.queue for ran in runs),
            tokenize=sum(ran.timings.tokenize for ran in runs),
            compute=sum(ran.timings.compute for ran in runs),
        ),
        batch_items=max((ran.batch_items for ran in runs), default=0),
        device="gpu" if any(ran.device == "gpu" for ran in runs) else "cpu",
        cached=bool(runs) and all(ran.cached for ran in runs),
    )
