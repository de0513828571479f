"""ModelInfer, whatever carries it: one request to one response."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from model_svc.oip.decode import decode_inputs, decode_outputs
from model_svc.oip.encode import encode_outputs, encode_stream_failure
from model_svc.oip.parameters import decode_options
from model_svc.ports import InferCall
from model_svc.repository.repository import Repository
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.errors import StepwireError, field_invalid

STREAM_REQUESTS: Final = 64


class Inference:
    """Calls models by tensor. Errors are raised as `StepwireError`."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """Runs a model.

        Raises:
            StepwireError: The request does not fit the model, or could not be carried out.
        """
        if not request.model_name:
            raise field_invalid("model_name", "must name a model")
        with self._repository.use(request.model_name, request.model_version) as served:
            options = decode_options(request)
            outputs = decode_outputs(request, served)
            inputs = decode_inputs(request, served)
            inferred = await served.model.infer(
                InferCall(
                    inputs,
                    [spec.name for spec in outputs],
                    priority=options.priority,
                    timeout_seconds=options.timeout_seconds,
                )
            )
            return encode_outputs(served, request.id, outputs, inferred, options)

    async def stream(
        self, requests: AsyncIterator[pb.ModelInferRequest]
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Yields one answer per request, in their order; up to 64 run at a time."""
        running: deque[asyncio.Task[pb.ModelStreamInferResponse]] = deque()
        arrived = asyncio.Event()
        room = asyncio.Semaphore(STREAM_REQUESTS)

        async def read() -> None:
            async for request in requests:
                await room.acquire()
                running.append(asyncio.create_task(self._answer(request)))
                arrived.set()

        reader = asyncio.create_task(read())
        reader.add_done_callback(lambda _: arrived.set())
        try:
            while True:
                while running:
                    yield await running[0]
                    running.popleft()
                    room.release()
                if reader.done():
                    break
                arrived.clear()
                await arrived.wait()
            await reader
        finally:
            for task in (reader, *running):
                task.cancel()

    async def _answer(self, request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        try:
            response = await self.infer(request)
        except StepwireError as error:
            return encode_stream_failure(request, error.message)
        return pb.ModelStreamInferResponse(infer_response=response)
