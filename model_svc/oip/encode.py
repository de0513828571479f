"""Tensors to ModelInfer responses, and models to their metadata."""

from collections.abc import Sequence

from model_svc.oip.byte_strings import encode_bytes
from model_svc.repository import ServedModel
from model_svc.tensors import BYTES, DTYPES, Tensor, TensorSpec
from stepwire.api.inference import open_inference_pb2 as pb

_Metadata = pb.ModelMetadataResponse


def encode_outputs(
    served: ServedModel, request_id: str, specs: Sequence[TensorSpec], tensors: Sequence[Tensor]
) -> pb.ModelInferResponse:
    """Returns a response with raw contents, one tensor per spec."""
    return pb.ModelInferResponse(
        model_name=served.name,
        model_version=served.version,
        id=request_id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=spec.name, datatype=spec.datatype, shape=tensor.shape
            )
            for spec, tensor in zip(specs, tensors, strict=True)
        ],
        raw_output_contents=[
            encode_bytes(tensor)
            if spec.datatype == BYTES
            else tensor.astype(DTYPES[spec.datatype], copy=False).tobytes()
            for spec, tensor in zip(specs, tensors, strict=True)
        ],
    )


def encode_metadata(served: ServedModel, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """Returns what a model says of itself."""
    return _Metadata(
        name=served.name,
        versions=versions,
        platform=served.model.platform,
        inputs=[_encode_spec(spec) for spec in served.model.inputs],
        outputs=[_encode_spec(spec) for spec in served.model.outputs],
    )


def _encode_spec(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return _Metadata.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.wire_shape)
