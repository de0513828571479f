"""Wires the model service: settings in, services out."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from functools import partial
from pathlib import Path

from model_svc.export.variants import Variant
from model_svc.health import Fallbacks, observe_hanging
from model_svc.oip.http.servicer import HTTP_SERVICE_NAME, HttpServicer
from model_svc.oip.inference import Inference
from model_svc.oip.server import ModelServer
from model_svc.oip.servicer import INFERENCE_SERVICE_NAME, InferenceServicer
from model_svc.repository.built_in import BuiltInSource, installed_weights
from model_svc.repository.catalogue import Catalogue
from model_svc.repository.folder import FolderSource
from model_svc.repository.load_threads import LoadThreads
from model_svc.repository.polling import poll
from model_svc.repository.repository import Repository
from model_svc.repository.served import ServedModel
from model_svc.repository.sources import EncoderModel, Source
from model_svc.running.runtime import Runtime
from model_svc.servicer import MODEL_SERVICE_NAME, ModelServicer
from model_svc.sessions.errors import ModelLoadError
from model_svc.settings import ModelSettings
from model_svc.text.extract import Extractor
from stepwire.api.inference.open_inference_pb2_grpc import (
    add_GRPCInferenceServiceServicer_to_server,
)
from stepwire.api.model.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from stepwire.api.model.v1.open_inference_http_service_pb2_grpc import (
    add_OpenInferenceHttpServiceServicer_to_server,
)
from stepwire.lifecycle import StartError
from stepwire.rpc import Service
from stepwire.telemetry import meter


async def build(stack: AsyncExitStack, *, settings: ModelSettings) -> Sequence[Service]:
    """Returns the services once models are loaded; what they hold is closed by `stack`.

    Raises:
        StartError: The model for texts cannot be loaded, or the folder of models not be read.
    """
    runtime = Runtime(settings, meter())
    stack.callback(runtime.close)
    repository = _repository(settings, runtime)
    stack.push_async_callback(repository.close)
    try:
        await repository.start(also=[_name(settings, kind) for kind in settings.embedding_variants])
    except ModelLoadError as error:
        raise StartError(str(error)) from error
    if settings.repository_poll_seconds:
        polling = asyncio.create_task(poll(repository, settings.repository_poll_seconds))
        stack.callback(polling.cancel)
    extractor = Extractor(max_sentences=settings.max_extract_sentences)
    fallbacks = Fallbacks(repository, meter())
    observe_hanging(repository, meter())
    server = ModelServer(repository, fallbacks, strict=settings.strict_readiness)
    inference = Inference(repository)
    servicer = InferenceServicer(server, inference, calls_per_stream=settings.max_calls_per_stream)
    return [
        Service(
            MODEL_SERVICE_NAME,
            partial(add_ModelServiceServicer_to_server, ModelServicer(repository, extractor)),
            conditions=fallbacks.conditions,
        ),
        Service(
            INFERENCE_SERVICE_NAME,
            partial(add_GRPCInferenceServiceServicer_to_server, servicer),
            drain=servicer.streams.drain,
            attach=servicer.streams.attach,
        ),
        Service(
            HTTP_SERVICE_NAME,
            partial(
                add_OpenInferenceHttpServiceServicer_to_server, HttpServicer(server, inference)
            ),
        ),
    ]


def _repository(settings: ModelSettings, runtime: Runtime) -> Repository:
    def use(name: str, version: str) -> AbstractContextManager[ServedModel]:
        return repository.use(name, version)

    source_of = partial(
        FolderSource, loader=runtime, use=use, cache_bytes=settings.response_cache_bytes
    )
    threads = LoadThreads(settings.load_timeout_seconds)
    catalogue = Catalogue(_built_in(settings, runtime), settings.repository_dir, source_of, threads)
    repository = Repository(catalogue, default_model=settings.default_model)
    return repository


def _built_in(settings: ModelSettings, runtime: Runtime) -> Mapping[str, Source]:
    """The embedding model in all its variants, by name."""

    def load(name: str, version: str, *, variant: Variant) -> EncoderModel:
        checkpoint: Path = settings.embedding_model_dir or installed_weights()
        return runtime.load_encoder(name, version, checkpoint, variant)

    names = {_name(settings, variant): variant for variant in Variant}
    return {
        name: BuiltInSource(name, partial(load, variant=variant)) for name, variant in names.items()
    }


def _name(settings: ModelSettings, variant: str) -> str:
    if variant == Variant.FLOAT32:
        return settings.default_model
    return f"{settings.default_model}-{variant}"
