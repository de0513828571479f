"""OpenInferenceHttpService: what `servicer` of the parent answers, as the protocol's JSON."""

import json
from typing import Any, Final

import grpc.aio
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from model_svc.oip.http.infer_body import decode_infer, encode_infer
from model_svc.oip.http.json_values import json_value, read_object
from model_svc.oip.inference import Inference
from model_svc.oip.server import ModelServer
from stepwire.api.inference import extensions_pb2 as extensions
from stepwire.api.model.v1 import open_inference_http_service_pb2 as pb
from stepwire.api.model.v1.open_inference_http_service_pb2_grpc import (
    OpenInferenceHttpServiceServicer,
)
from stepwire.errors import Reason, StepwireError, field_invalid

HTTP_SERVICE_NAME: Final[str] = pb.DESCRIPTOR.services_by_name["OpenInferenceHttpService"].full_name

# Tells where the JSON of a body ends, and the tensors begin.
_JSON_BYTES: Final = "inference-header-content-length"
# More digits than any length has.
_LENGTH_DIGITS: Final = 18
_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"

_Context = grpc.aio.ServicerContext[object, object]


class HttpServicer(OpenInferenceHttpServiceServicer):
    """Models by tensor, over HTTP. Errors are raised as `StepwireError`."""

    def __init__(self, server: ModelServer, inference: Inference) -> None:
        self._server = server
        self._inference = inference

    async def GetServer(self, request: pb.GetServerRequest, context: _Context) -> HttpBody:
        return _message(self._server.metadata())

    async def CheckLive(self, request: pb.CheckLiveRequest, context: _Context) -> HttpBody:
        return _json({"live": True})

    async def CheckReady(self, request: pb.CheckReadyRequest, context: _Context) -> HttpBody:
        if not self._server.ready:
            raise StepwireError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "not every model is ready",
                metadata={"dependency": "models"},
            )
        fallbacks = self._server.fallbacks
        return _json({"ready": True} | ({"fallbacks": fallbacks} if fallbacks else {}))

    async def GetModel(self, request: pb.GetModelRequest, context: _Context) -> HttpBody:
        return _message(self._server.model_metadata(request.model_name, request.model_version))

    async def CheckModelReady(
        self, request: pb.CheckModelReadyRequest, context: _Context
    ) -> HttpBody:
        name = request.model_name
        if not self._server.model_ready(name, request.model_version):
            raise StepwireError(
                Reason.MODEL_NOT_READY, f"model {name!r} is not loaded", metadata={"model": name}
            )
        return _json({"name": name, "ready": True})

    async def GetModelConfig(
        self, request: pb.GetModelConfigRequest, context: _Context
    ) -> HttpBody:
        response = self._server.model_config(request.model_name, request.model_version)
        return _message(response.config)

    async def GetModelStatistics(
        self, request: pb.GetModelStatisticsRequest, context: _Context
    ) -> HttpBody:
        return _message(self._server.statistics(request.model_name, request.model_version))

    async def Infer(self, request: pb.InferRequest, context: _Context) -> HttpBody:
        decoded, binary = decode_infer(
            request.model_name,
            request.model_version,
            request.body.data,
            json_bytes=_json_bytes(context),
        )
        body, json_bytes = encode_infer(await self._inference.infer(decoded), binary)
        if json_bytes == len(body):
            return HttpBody(content_type=_JSON, data=body)
        await context.send_initial_metadata(((_JSON_BYTES, str(json_bytes)),))
        return HttpBody(content_type=_BINARY, data=body)

    async def ListRepository(
        self, request: pb.ListRepositoryRequest, context: _Context
    ) -> HttpBody:
        wanted = read_object("body", request.body.data, {"ready": bool, "repository_name": str})
        index = self._server.index(extensions.RepositoryIndexRequest(**wanted))
        return _json(json_value(index)["models"])

    async def LoadModel(self, request: pb.LoadModelRequest, context: _Context) -> HttpBody:
        change = extensions.RepositoryModelLoadRequest(model_name=request.model_name)
        _set_parameters(request.body, change)
        await self._server.load(change)
        return _json({})

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: _Context) -> HttpBody:
        change = extensions.RepositoryModelUnloadRequest(model_name=request.model_name)
        _set_parameters(request.body, change)
        await self._server.unload(change)
        return _json({})


def _json_bytes(context: _Context) -> int | None:
    for name, value in context.invocation_metadata() or ():
        if name == _JSON_BYTES:
            text = str(value)
            if not (text.isascii() and text.isdecimal() and len(text) <= _LENGTH_DIGITS):
                raise field_invalid(_JSON_BYTES, "must be a whole number")
            return int(text)
    return None


def _set_parameters(
    body: HttpBody,
    change: extensions.RepositoryModelLoadRequest | extensions.RepositoryModelUnloadRequest,
) -> None:
    given = read_object("body", body.data, {"parameters": dict})
    for name, value in given.get("parameters", {}).items():
        if isinstance(value, bool):
            change.parameters[name].bool_param = value
        else:
            change.parameters[name].string_param = str(value)


def _message(message: Message) -> HttpBody:
    return _json(json_value(message))


def _json(value: Any) -> HttpBody:
    return HttpBody(content_type=_JSON, data=json.dumps(value).encode())
