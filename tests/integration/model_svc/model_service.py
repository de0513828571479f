"""The model service in this process, with models of a test's own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_svc.app import build
from model_svc.oip.byte_strings import encode_bytes
from model_svc.settings import ModelSettings
from stepwire.api.inference import extensions_pb2 as extensions
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.api.inference.open_inference_pb2_grpc import (
    GRPCInferenceServiceAsyncStub,
    GRPCInferenceServiceStub,
)
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub, ModelServiceStub
from stepwire.rpc import Server, open_channel

Input = pb.ModelInferRequest.InferInputTensor

_DATATYPES = {"int64": "INT64", "float32": "FP32", "float16": "FP16", "object": "BYTES"}


@dataclass(frozen=True)
class RunningService:
    """A service that takes calls.

    Attributes:
        address: Host and port.
        inference: Calls it tensor by tensor.
        texts: Calls it text by text.
    """

    address: str
    inference: GRPCInferenceServiceAsyncStub
    texts: ModelServiceAsyncStub

    async def scale(self, name: str = "scale", version: str = "") -> float:
        """Returns by what a model multiplies."""
        x = {"x": np.ones((1, 2), dtype=np.float32)}
        response = await self.inference.ModelInfer(infer(name, x, model_version=version))
        return float(output(response)[0][0])

    async def load(self, name: str) -> None:
        await self.inference.RepositoryModelLoad(
            extensions.RepositoryModelLoadRequest(model_name=name)
        )

    async def unload(self, name: str) -> None:
        await self.inference.RepositoryModelUnload(
            extensions.RepositoryModelUnloadRequest(model_name=name)
        )

    async def index(self, *, ready: bool = False) -> dict[tuple[str, str], tuple[str, str]]:
        """Returns the state and reason of each version of each model."""
        request = extensions.RepositoryIndexRequest(ready=ready)
        models = (await self.inference.RepositoryIndex(request)).models
        return {(m.name, m.version): (m.state, m.reason) for m in models}


@asynccontextmanager
async def running_service(**settings: Any) -> AsyncIterator[RunningService]:
    """Runs the service until the block ends."""
    chosen = ModelSettings(port=0, **settings)
    async with AsyncExitStack() as stack:
        services = await build(stack, settings=chosen)
        server = await stack.enter_async_context(Server("model", chosen, services))
        channel = await stack.enter_async_context(open_channel(server.address))
        yield RunningService(
            server.address, GRPCInferenceServiceStub(channel), ModelServiceStub(channel)
        )


def infer(model: str, tensors: Mapping[str, Any], **fields: Any) -> pb.ModelInferRequest:
    """A request with raw contents."""
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[
            Input(name=name, datatype=_DATATYPES[tensor.dtype.name], shape=tensor.shape)
            for name, tensor in tensors.items()
        ],
        raw_input_contents=[
            encode_bytes(tensor) if tensor.dtype == object else tensor.tobytes()
            for tensor in tensors.values()
        ],
        **fields,
    )


def output(response: pb.ModelInferResponse, index: int = 0, dtype: str = "<f4") -> Any:
    """One of a response's tensors."""
    tensor = response.outputs[index]
    return np.frombuffer(response.raw_output_contents[index], dtype=dtype).reshape(tensor.shape)


def configure(home: Path, text: str) -> None:
    """Writes a model's configuration."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.pbtxt").write_text(text)
