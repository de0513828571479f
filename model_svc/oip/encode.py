"""Tensors to ModelInfer responses, and models to their metadata."""

from collections.abc import Mapping, Sequence
from typing import Final

from model_svc.oip.byte_strings import encode_bytes
from model_svc.oip.parameters import Options
from model_svc.ports import Inferred, Ran
from model_svc.repository.served import ServedModel
from model_svc.tensors import BYTES, DTYPES, Tensor, TensorSpec
from stepwire.api.inference import open_inference_pb2 as pb

_Metadata = pb.ModelMetadataResponse

_MICROSECONDS: Final = 1_000_000
_FALLBACK: Final = "stepwire_fallback"
_FINAL: Final = "triton_final_response"


def encode_outputs(
    served: ServedModel,
    request_id: str,
    specs: Sequence[TensorSpec],
    inferred: Inferred,
    options: Options,
) -> pb.ModelInferResponse:
    """Returns a response with raw contents, one tensor per spec."""
    response = pb.ModelInferResponse(
        model_name=served.name,
        model_version=served.version,
        id=request_id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=spec.name, datatype=spec.datatype, shape=tensor.shape
            )
            for spec, tensor in zip(specs, inferred.tensors, strict=True)
        ],
        raw_output_contents=[
            _raw(spec.datatype, tensor)
            for spec, tensor in zip(specs, inferred.tensors, strict=True)
        ],
    )
    if options.timings:
        for name, value in _ran(inferred.ran).items():
            response.parameters[name].MergeFrom(value)
    if served.model.fallback:
        response.parameters[_FALLBACK].string_param = served.model.fallback
    if options.final_mark:
        response.parameters[_FINAL].bool_param = True
    return response


def encode_stream_failure(
    request: pb.ModelInferRequest, message: str
) -> pb.ModelStreamInferResponse:
    """Returns the answer to a request of a stream that failed."""
    return pb.ModelStreamInferResponse(
        error_message=message,
        infer_response=pb.ModelInferResponse(
            model_name=request.model_name, model_version=request.model_version, id=request.id
        ),
    )


def encode_metadata(served: ServedModel, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """Returns what a model says of itself."""
    return _Metadata(
        name=served.name,
        versions=versions,
        platform=served.model.platform,
        inputs=[_encode_spec(spec) for spec in served.inputs],
        outputs=[_encode_spec(spec) for spec in served.outputs],
    )


def _raw(datatype: str, tensor: Tensor) -> bytes:
    if datatype == BYTES:
        return encode_bytes(tensor)
    return tensor.astype(DTYPES[datatype], copy=False).tobytes()


def _ran(ran: Ran) -> Mapping[str, pb.InferParameter]:
    def microseconds(seconds: float) -> pb.InferParameter:
        return pb.InferParameter(int64_param=round(seconds * _MICROSECONDS))

    return {
        "stepwire_queue_us": microseconds(ran.timings.queue),
        "stepwire_tokenize_us": microseconds(ran.timings.tokenize),
        "stepwire_compute_us": microseconds(ran.timings.compute),
        "stepwire_batch_items": pb.InferParameter(int64_param=ran.batch_items),
        "stepwire_device": pb.InferParameter(string_param=ran.device),
        "stepwire_cached": pb.InferParameter(bool_param=ran.cached),
    }


def _encode_spec(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return _Metadata.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.wire_shape)
