"""Opens a version of a model: loads it, holds it against its configuration, runs it once."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import numpy as np

from model_svc.generation.ports import TextGenerator
from model_svc.generation.records import GenerateCall
from model_svc.ports import InferCall, Model, TextModel
from model_svc.repository.interface import narrowed
from model_svc.repository.load_threads import LoadThreads
from model_svc.repository.plans import whole_config
from model_svc.repository.served import ServedModel
from model_svc.repository.sources import Found, Loaded, Source
from model_svc.sessions.errors import ModelLoadError
from model_svc.tensors import BYTES, DTYPES, Tensor, TensorSpec
from stepwire.errors import Reason, StepwireError

_logger = logging.getLogger(__name__)

_WARM_TEXT: Final = "The first is slower."


async def open_version(
    source: Source,
    found: Found,
    version: str,
    *,
    threads: LoadThreads,
    discard: Callable[[Model], None],
) -> ServedModel:
    """Returns a version that is ready to be called.

    Args:
        source: Loads it.
        found: What there is of the model.
        version: Which of its versions.
        threads: Where it is loaded.
        discard: Is given a model that comes too late, or hangs, to be closed without waiting.

    Raises:
        ModelLoadError: It cannot be loaded, takes too long, does not fit its configuration, or
            fails.
    """
    try:
        return await _open(source, found, version, threads, discard)
    except ModelLoadError:
        raise
    except Exception as error:
        # Whatever it is, the other models go on.
        _logger.exception(
            "loading a model failed", extra={"model": found.config.name, "version": version}
        )
        raise ModelLoadError(f"model {found.config.name}: {error}") from error


async def _open(
    source: Source,
    found: Found,
    version: str,
    threads: LoadThreads,
    discard: Callable[[Model], None],
) -> ServedModel:
    name = found.config.name
    loaded = await threads.run(
        name,
        f"loading model {name}",
        lambda: source.load(found, version),
        late=lambda loaded: discard(loaded.model),
    )
    limit = asyncio.timeout(threads.timeout_seconds)
    try:
        served = _served(found, version, loaded)
        async with limit:
            await _warm_up(served)
    except (TimeoutError, asyncio.CancelledError):
        # Nobody waits for its run: it may never end.
        loaded.model.interrupt()
        discard(loaded.model)
        if not limit.expired():
            raise
        raise ModelLoadError(
            f"model {name}: its first run took longer than {threads.timeout_seconds:g} seconds"
        ) from None
    except BaseException:
        await loaded.model.close()
        raise
    loaded.model.statistics.reset()
    return served


def _served(found: Found, version: str, loaded: Loaded) -> ServedModel:
    config, model = found.config, loaded.model
    inputs, outputs = model.inputs, model.outputs
    if loaded.text is None:
        inputs = narrowed(config, "input", config.input, inputs)
        outputs = narrowed(config, "output", config.output, outputs)
    return ServedModel(
        config.name,
        version,
        model,
        inputs=inputs,
        outputs=outputs,
        text=loaded.text,
        generator=loaded.generator,
        config=whole_config(config, model, inputs=inputs, outputs=outputs),
        max_rows=config.max_batch_size,
    )


async def _warm_up(served: ServedModel) -> None:
    """Runs the model, so that memory is set aside and a faulty one is found out.

    An arbitrary model may rightly refuse zeros: that is logged, and no fault. The models of
    an ensemble are warmed up for themselves, and may come after it.
    """
    model = served.model
    if served.config.HasField("ensemble_scheduling"):
        return
    try:
        if served.text is not None:
            await _embed_twice(served.name, served.text)
            return
        if served.generator is not None:
            await _write_one_token(served.generator)
            return
        zeros = {spec.name: _zeros(spec) for spec in served.inputs}
        await model.infer(InferCall(zeros, [spec.name for spec in served.outputs]))
    except StepwireError as error:
        reads_tensors = served.text is None and served.generator is None
        if error.reason is not Reason.MODEL_INPUT_INVALID or not reads_tensors:
            raise ModelLoadError(f"model {served.name}: its first run failed: {error}") from error
        _logger.info(
            "a model was not warmed up, since it refuses zeros",
            extra={"model": served.name, "version": served.version, "error": str(error)},
        )
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(f"model {served.name}: its first run failed: {error}") from error


async def _embed_twice(name: str, model: TextModel) -> None:
    # Alone, and beside another: those may be two sessions.
    both = await asyncio.gather(*(model.embed([_WARM_TEXT]) for _ in range(2)))
    if not all(np.isfinite(embedded.vectors).all() for embedded in both):
        raise ModelLoadError(f"model {name}: its vectors are not finite")


async def _write_one_token(generator: TextGenerator) -> None:
    async with aclosing(generator.generate(GenerateCall(_WARM_TEXT, max_tokens=1))) as pieces:
        async for _ in pieces:
            pass


def _zeros(spec: TensorSpec) -> Tensor:
    """A tensor whose variable sizes are 1."""
    shape = [1 if isinstance(size, str) else size for size in spec.shape]
    if spec.datatype == BYTES:
        return np.full(shape, b"", dtype=object)
    return np.zeros(shape, dtype=DTYPES[spec.datatype])
