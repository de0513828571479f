"""Puts a model that writes texts together."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from opentelemetry.metrics import Meter

from model_svc.generation.metrics import GenerationMetrics
from model_svc.generation.model import GenerationModel, TokenExecute
from model_svc.generation.process import DecoderProcess
from model_svc.metrics import ModelMetrics
from model_svc.running.batcher import Batcher
from model_svc.running.budgets import RowBudget
from model_svc.running.place import Place
from model_svc.running.plan import RunPlan
from model_svc.running.slots import ComputePool
from model_svc.sessions.devices import Device
from model_svc.sessions.runner import Runner
from model_svc.settings import ModelSettings

# Each run is one token of one text.
_ONE_BY_ONE = 0


def open_generator(
    name: str,
    version: str,
    folder: Path,
    plan: RunPlan,
    *,
    settings: ModelSettings,
    pools: Mapping[Device, ComputePool],
    meter: Meter,
    clock: Callable[[], float],
) -> GenerationModel:
    """Returns a model that writes texts; blocks while it is loaded.

    Raises:
        ModelLoadError: It cannot be served.
    """
    process = DecoderProcess(
        name,
        folder,
        threads=plan.threads or settings.cpu_threads(),
        provider=settings.provider if plan.provider == "auto" else plan.provider,
        load_seconds=settings.load_timeout_seconds,
    )
    metrics = ModelMetrics(
        meter,
        model=name,
        version=version,
        reads_text=False,
    )
    runner = Runner(1)
    budget = RowBudget(_ONE_BY_ONE)
    places = {device: Place(device, pool, budget) for device, pool in pools.items()}
    return GenerationModel(
        name,
        process=process,
        batcher=Batcher(
            name,
            TokenExecute(process, runner),
            place=lambda: places[process.device],
            # A second run would only wait for the process.
            plan=replace(plan, instances=1),
            max_waiting=plan.max_waiting or settings.max_texts_written,
            clock=clock,
            observer=metrics,
        ),
        metrics=metrics,
        generation=GenerationMetrics(meter, model=name, version=version),
        runner=runner,
        max_texts=plan.max_waiting or settings.max_texts_written,
    )
