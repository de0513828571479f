"""ModelInfer, whatever carries it: one request to one response."""

from model_svc.oip.decode import decode_inputs, decode_outputs
from model_svc.oip.encode import encode_outputs
from model_svc.oip.parameters import decode_options
from model_svc.ports import InferCall
from model_svc.repository.repository import Repository
from stepwire.api.inference import open_inference_pb2 as pb
from stepwire.errors import field_invalid


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
