"""Runs an encoder on batches of token rows."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from model_svc.export.tensor_names import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPES
from model_svc.readouts import Readout, read_vectors
from model_svc.rows import bucketed, padded
from model_svc.running.budgets import TokenBudget
from model_svc.running.execute import Executed
from model_svc.sessions.devices import Device
from model_svc.sessions.engine import Engine, Run
from model_svc.sessions.errors import DeviceError
from model_svc.sessions.runner import Runner
from model_svc.tensors import TensorSpec, Tokens, Vectors

_INPUTS: Final = (
    [ATTENTION_MASK, INPUT_IDS],
    [ATTENTION_MASK, INPUT_IDS, TOKEN_TYPES],
)


class Row(NamedTuple):
    """One text in a batch: its token ids, and how its vector is read."""

    ids: Tokens
    readout: Readout


class Encoder:
    """An `Execute` over an engine: a `Row` gives a vector."""

    def __init__(self, engine: Engine, runner: Runner, on_cpu: TokenBudget) -> None:
        """Runs batches.

        Args:
            engine: The model.
            runner: The threads that call it.
            on_cpu: What runs together on a CPU.
        """
        self._engine = engine
        self._runner = runner
        self._on_cpu = on_cpu
        self._token_types = any(spec.name == TOKEN_TYPES for spec in engine.inputs)

    async def __call__(self, payloads: Sequence[Row], *, alone: bool) -> Executed:
        """See `Execute`."""
        return await self._runner.run(self.encode, payloads, alone)

    def encode(self, rows: Sequence[Row], alone: bool) -> Executed:  # noqa: FBT001 - run in a thread
        """Returns the vectors of some rows, in the calling thread.

        A batch that was made for a GPU which then fails is run by the CPU in parts.

        Raises:
            InputRefusedError: A row does not fit the model.
        """
        if self._engine.device is Device.GPU:
            with suppress(DeviceError):
                run = self._engine.run_on_device
                ids, mask = bucketed(*padded([row.ids for row in rows]))
                return Executed(self._vectors(rows, run, ids, mask), Device.GPU)
        run = partial(self._engine.run_on_cpu, alone=alone)
        vectors: list[Vectors] = []
        for part in self._on_cpu.parts([len(row.ids) for row in rows]):
            ids, mask = padded([row.ids for row in rows[part]])
            vectors += self._vectors(rows[part], run, ids, mask)
        return Executed(vectors, Device.CPU)

    def _vectors(
        self, rows: Sequence[Row], run: Run, ids: Tokens, mask: Tokens
    ) -> Sequence[Vectors]:
        inputs: dict[str, Any] = {INPUT_IDS: ids, ATTENTION_MASK: mask}
        if self._token_types:
            inputs[TOKEN_TYPES] = np.zeros_like(ids)
        readouts = list(dict.fromkeys(row.readout for row in rows))
        names = list(dict.fromkeys(readout.output for readout in readouts))
        outputs = dict(zip(names, run(inputs, names), strict=True))
        vectors = {
            readout: read_vectors(readout, outputs[readout.output], mask) for readout in readouts
        }
        if len(readouts) == 1:
            return list(vectors[readouts[0]][: len(rows)])
        return [vectors[row.readout][index] for index, row in enumerate(rows)]


def check_inputs(specs: Sequence[TensorSpec]) -> None:
    """Checks that a graph takes what texts are made to.

    Raises:
        ValueError: It does not; says what it takes.
    """
    if (
        any(spec.datatype != "INT64" for spec in specs)
        or sorted(spec.name for spec in specs) not in _INPUTS
    ):
        given = ", ".join(f"{spec.name} ({spec.datatype})" for spec in specs)
        raise ValueError(
            f"its inputs are {given}; must be input_ids, attention_mask and perhaps "
            "token_type_ids, all INT64"
        )
