"""A model on its device, or on the CPU once the device has failed."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from model_svc.sessions.devices import Device
from model_svc.sessions.errors import DeviceError, ModelLoadError
from model_svc.sessions.graphs import GATE
from model_svc.tensors import Tensor, TensorSpec
from stepwire.errors import Reason, StepwireError

_logger = logging.getLogger(__name__)

# So many failures of the device, one after the other, and the model stays on the CPU.
_MAX_FAILURES: Final = 3


class Runnable(Protocol):
    """A model that is loaded on one device."""

    device: Device
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Runs it in the calling thread.

        Raises:
            InputRefusedError: The inputs do not fit the model.
            DeviceError: The device failed.
        """

    def interrupt(self) -> None:
        """Has the runs under way, and all later ones, end soon, as failures."""


# Runs a model on all its inputs, for the outputs of these names.
Run = Callable[[Mapping[str, Tensor], Sequence[str]], list[Tensor]]

# Loads a model on a device, for runs that share the work among so many threads.
Open = Callable[[Device, int], Runnable]


class Engine:
    """One model, loaded for runs alone and for runs beside others. Thread-safe.

    On a CPU a batch that runs alone is shared by all threads, for the shortest wait.
    Batches side by side take one thread each: they need not wait for each other's parts,
    and the same cores do more of them (`docs/adr/0008-how-models-use-cores.md`).

    A device other than the CPU may fail, at the start or later. What it could not do is
    done on the CPU; after several failures in a row the model stays there, until it is
    loaded again.
    """

    def __init__(
        self, open_: Open, *, device: Device, threads: int, twofold: bool, strict: bool = False
    ) -> None:
        """Loads the model.

        Args:
            open_: Loads it on a device.
            device: Where it is to run.
            threads: Threads of the CPU.
            twofold: Whether it is loaded a second time, for batches side by side.
            strict: Whether a device that cannot be used now is an error.

        Raises:
            ModelLoadError: It is not a model that can be served.
            DeviceError: The device cannot be used, and `strict` is set.
        """
        self._open = open_
        self._threads = threads
        self._twofold = twofold
        self._lock = threading.Lock()
        self._failures = 0
        self._cpu: tuple[Runnable, Runnable] | None = None
        self._device: Runnable | None = None
        self.fallback = ""
        if device is Device.CPU:
            first = self._on_cpu()[0]
        else:
            first = self._on_device(device, strict=strict)
        self.inputs = first.inputs
        self.outputs = first.outputs

    @property
    def device(self) -> Device:
        """Where it runs now."""
        return Device.CPU if self._device is None else self._device.device

    def run(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str], *, alone: bool
    ) -> tuple[list[Tensor], Device]:
        """Runs the model in the calling thread; returns its outputs, and where it ran.

        Args:
            inputs: All its inputs.
            outputs: The names of those wanted.
            alone: Whether it may have the whole CPU.

        Raises:
            InputRefusedError: The inputs do not fit the model.
            StepwireError: DEPENDENCY_UNAVAILABLE; the device failed, and the CPU cannot take
                its place.
        """
        device = self.device
        if device is not Device.CPU:
            with suppress(DeviceError):
                return self.run_on_device(inputs, outputs), device
        return self.run_on_cpu(inputs, outputs, alone=alone), Device.CPU

    def run_on_device(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """As `run`, but not on the CPU.

        Raises:
            InputRefusedError: The inputs do not fit the model.
            DeviceError: The device failed, or was given up.
        """
        session = self._device
        if session is None:
            raise DeviceError(self.fallback)
        try:
            results = session.run(inputs, outputs)
        except DeviceError as error:
            self._failed(error)
            raise
        self._failures = 0
        return results

    def run_on_cpu(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str], *, alone: bool
    ) -> list[Tensor]:
        """As `run`, but on the CPU.

        Raises:
            InputRefusedError: The inputs do not fit the model.
            StepwireError: DEPENDENCY_UNAVAILABLE; the CPU cannot take the device's place.
        """
        try:
            whole, part = self._on_cpu()
        except ModelLoadError as error:
            raise StepwireError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the device failed, and the CPU cannot take its place: {error}",
                metadata={"dependency": Device.CPU},
            ) from error
        return (whole if alone else part).run(inputs, outputs)

    def interrupt(self) -> None:
        """Has the runs under way, and all later ones, end soon, as failures."""
        for session in (self._device, *(self._cpu or ())):
            if session is not None:
                session.interrupt()

    def close(self) -> None:
        """Lets go of the memory of the model, which is not run any more."""
        # At once: what is left is held in a circle until the collector comes by.
        with GATE.use():
            self._device = self._cpu = None

    def _on_device(self, device: Device, *, strict: bool) -> Runnable:
        try:
            self._device = self._open(device, self._threads)
        except DeviceError as error:
            if strict:
                raise
            self._give_up(error)
            return self._on_cpu()[0]
        return self._device

    def _on_cpu(self) -> tuple[Runnable, Runnable]:
        with self._lock:
            if self._cpu is None:
                whole = self._open(Device.CPU, self._threads)
                part = self._open(Device.CPU, 1) if self._twofold and self._threads > 1 else whole
                self._cpu = (whole, part)
            return self._cpu

    def _failed(self, error: DeviceError) -> None:
        with self._lock:
            self._failures += 1
            gives_up = self._failures >= _MAX_FAILURES and self._device is not None
            if gives_up:
                self._give_up(error)
        if not gives_up:
            _logger.warning("a run failed on its device and is done on the CPU: %s", error)

    def _give_up(self, error: DeviceError) -> None:
        self.fallback = str(error)
        self._device = None
        # Not the error itself: with its traceback it would hold the session.
        _logger.error("a model runs on the CPU from now on: %s", self.fallback)
