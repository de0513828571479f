"""Wires the model service: settings in, services out."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from model_svc.loading import Loader
from model_svc.oip.servicer import INFERENCE_SERVICE_NAME, InferenceServicer
from model_svc.repository import Repository
from model_svc.servicer import MODEL_SERVICE_NAME, ModelServicer
from model_svc.sessions import ModelLoadError
from model_svc.settings import ModelSettings
from model_svc.text.extract import Extractor
from stepwire.api.inference.open_inference_pb2_grpc import (
    add_GRPCInferenceServiceServicer_to_server,
)
from stepwire.api.model.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from stepwire.lifecycle import StartError
from stepwire.rpc import Service
from stepwire.telemetry import meter

_logger = logging.getLogger(__name__)

_VERSION = "1"


async def build(stack: AsyncExitStack, *, settings: ModelSettings) -> Sequence[Service]:
    """Returns the services once every model is loaded; what they hold is closed by `stack`.

    Raises:
        StartError: A model cannot be loaded.
    """
    try:
        repository = await _load(stack, settings)
    except ModelLoadError as error:
        raise StartError(str(error)) from error
    extractor = Extractor(max_sentences=settings.max_extract_sentences)
    return [
        Service(
            MODEL_SERVICE_NAME,
            partial(add_ModelServiceServicer_to_server, ModelServicer(repository, extractor)),
        ),
        Service(
            INFERENCE_SERVICE_NAME,
            partial(add_GRPCInferenceServiceServicer_to_server, InferenceServicer(repository)),
        ),
    ]


async def _load(stack: AsyncExitStack, settings: ModelSettings) -> Repository:
    loader = Loader(settings, stack, meter())
    encoder = await asyncio.to_thread(loader.load_encoder)
    # First runs, alone and beside another, so that memory is set aside and a faulty model
    # is found out now.
    await asyncio.gather(*(encoder.embed(["The first is slower."]) for _ in range(2)))
    folder = settings.repository_dir
    models = {} if folder is None else await asyncio.to_thread(loader.load_folder, folder)
    name = settings.default_model
    if name in models:
        raise ModelLoadError(f"{folder}: the name {name} is taken by the embedding model")
    repository = Repository(
        {**models, name: {_VERSION: encoder}}, embedders={name: encoder}, default_model=name
    )
    _logger.info("models are loaded", extra={"models": repository.names})
    return repository
