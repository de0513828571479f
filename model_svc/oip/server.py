"""What the inference services say and do, whether by gRPC or by HTTP."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from model_svc.health import Fallbacks
from model_svc.oip.encode import encode_metadata
from model_svc.oip.management import (
    check_repository,
    decode_change,
    encode_index,
    encode_statistics,
)
from model_svc.repository.repository import Repository
from stepwire.api.inference import extensions_pb2 as extensions
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.errors import field_invalid

_SERVER_NAME: Final = "stepwire-model"
EXTENSIONS: Final = ("model_configuration", "model_repository", "statistics", "binary_tensor_data")


class ModelServer:
    """The server and its models, but for running them. Errors are raised as `StepwireError`."""

    def __init__(self, repository: Repository, fallbacks: Fallbacks, *, strict: bool) -> None:
        """Speaks of a repository.

        Args:
            repository: The models.
            fallbacks: Those that do not run where they were to run.
            strict: Whether the server is only ready while every model is.
        """
        self._repository = repository
        self._fallbacks = fallbacks
        self._strict = strict

    @property
    def ready(self) -> bool:
        """Whether the server is ready for inference; the first load is over by now."""
        return not self._strict or self._repository.all_ready

    @property
    def fallbacks(self) -> Mapping[str, str]:
        """Why models do not run where they were to run, by name; they serve nonetheless."""
        return self._fallbacks.reasons

    def metadata(self) -> pb.ServerMetadataResponse:
        """Returns what the server says of itself."""
        return pb.ServerMetadataResponse(
            name=_SERVER_NAME, version=_version(), extensions=EXTENSIONS
        )

    def model_ready(self, name: str, version: str) -> bool:
        """Tells whether a model, or one version of it, is ready."""
        return self._repository.is_ready(_named(name), version)

    def model_metadata(self, name: str, version: str) -> pb.ModelMetadataResponse:
        """Returns what a model says of itself."""
        with self._repository.use(_named(name), version) as served:
            return encode_metadata(served, self._repository.versions(served.name))

    def model_config(self, name: str, version: str) -> extensions.ModelConfigResponse:
        """Returns how a model is served."""
        with self._repository.use(_named(name), version) as served:
            return extensions.ModelConfigResponse(config=served.config)

    def statistics(self, name: str, version: str) -> extensions.ModelStatisticsResponse:
        """Returns what models have done; all of them for no name."""
        if version:
            _named(name)
        return encode_statistics(self._repository.served(name, version))

    def index(
        self, request: extensions.RepositoryIndexRequest
    ) -> extensions.RepositoryIndexResponse:
        """Returns the models and the state of their versions."""
        check_repository(request.repository_name)
        return encode_index(self._repository.index(), ready=request.ready)

    async def load(self, request: extensions.RepositoryModelLoadRequest) -> None:
        """Loads a model, or what has changed of it."""
        await self._repository.load(decode_change(request))

    async def unload(self, request: extensions.RepositoryModelUnloadRequest) -> None:
        """Takes a model out of service."""
        await self._repository.unload(decode_change(request))


def _named(name: str) -> str:
    if not name:
        raise field_invalid("name", "must name a model")
    return name


def _version() -> str:
    try:
        return version("stepwire")
    except PackageNotFoundError:
        return "checkout"  # run from the sources, which have no version
