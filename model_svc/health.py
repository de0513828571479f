"""Tells which models do not run where they were to run, and which hang while they are loaded."""

from collections.abc import Iterable, Mapping
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from model_svc.metrics import MODEL, VERSION
from model_svc.repository.repository import Repository
from model_svc.sessions.devices import Device

GPU_CONDITION: Final = "stepwire.model.gpu"
FALLBACKS: Final = "stepwire.model.fallbacks"
HANGING: Final = "stepwire.model.loads.hanging"


class Fallbacks:
    """The models that run on the CPU although they were to run on a GPU."""

    def __init__(self, repository: Repository, meter: Meter) -> None:
        self._repository = repository
        # Observed when scraped.
        meter.create_observable_gauge(
            FALLBACKS,
            callbacks=[self._observe],
            unit="{model}",
            description="Whether a version of a model runs elsewhere than where it was to run.",
        )

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why, by the model's name."""
        return {
            served.name: served.model.fallback
            for served in self._repository.served()
            if served.model.fallback
        }

    def conditions(self) -> Mapping[str, bool]:
        """Whether all models that were to run on a GPU do; nothing if none was."""
        reasons = self.reasons
        on_gpu = any(served.model.device == Device.GPU for served in self._repository.served())
        return {GPU_CONDITION: not reasons} if reasons or on_gpu else {}

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        for served in self._repository.served():
            attributes = {MODEL: served.name, VERSION: served.version}
            yield Observation(int(bool(served.model.fallback)), attributes)


def observe_hanging(repository: Repository, meter: Meter) -> None:
    """Measures what was begun for models, takes too long, and cannot be ended."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for name, threads in repository.hanging.items():
            yield Observation(threads, {MODEL: name})

    meter.create_observable_gauge(
        HANGING,
        callbacks=[observe],
        unit="{thread}",
        description="Threads that look at or load a model, and take longer than they may.",
    )
