"""The repository and its statistics as Triton's extensions tell them."""

from collections.abc import Iterable, Mapping

from model_svc.repository.served import ServedModel
from model_svc.repository.shelf import Entry, State
from model_svc.running.statistics import Duration
from stepwire.api.inference import extensions_pb2 as pb
from stepwire.errors import field_invalid

_UNLOAD_DEPENDENTS = "unload_dependents"

_Change = pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest


def check_repository(name: str) -> None:
    """Refuses the name of a repository.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if name:
        raise field_invalid("repository_name", "must be empty: there is one repository")


def decode_change(request: _Change) -> str:
    """Returns the name of the model that is to be loaded or unloaded.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    check_repository(request.repository_name)
    if not request.model_name:
        raise field_invalid("model_name", "must name a model")
    for name, parameter in request.parameters.items():
        unloading = isinstance(request, pb.RepositoryModelUnloadRequest)
        if not (unloading and name == _UNLOAD_DEPENDENTS and not parameter.bool_param):
            raise field_invalid(
                f"parameters[{name}]",
                "is not supported: models and their configuration come from the folder alone",
            )
    return request.model_name


def encode_index(entries: Iterable[Entry], *, ready: bool) -> pb.RepositoryIndexResponse:
    """Returns the index, or what of it is ready."""
    return pb.RepositoryIndexResponse(
        models=[
            pb.RepositoryIndexResponse.ModelIndex(
                name=entry.model, version=entry.version, state=entry.state, reason=entry.reason
            )
            for entry in entries
            if not ready or entry.state is State.READY
        ]
    )


def encode_statistics(models: Iterable[ServedModel]) -> pb.ModelStatisticsResponse:
    """Returns what models have done."""
    return pb.ModelStatisticsResponse(model_stats=[_statistics(served) for served in models])


def _statistics(served: ServedModel) -> pb.ModelStatistics:
    tally = served.model.statistics.snapshot()
    return pb.ModelStatistics(
        name=served.name,
        version=served.version,
        last_inference=tally.last_inference_ms,
        inference_count=tally.inference_count,
        execution_count=tally.execution_count,
        inference_stats=pb.InferStatistics(
            success=_duration(tally.success),
            fail=_duration(tally.fail),
            queue=_duration(tally.queue),
            compute_input=_duration(tally.compute_input),
            compute_infer=_duration(tally.compute_infer),
            compute_output=_duration(tally.compute_output),
            cache_hit=_duration(tally.cache_hit),
            cache_miss=_duration(tally.cache_miss),
        ),
        batch_stats=_batches(tally.batches),
    )


def _batches(
    batches: Mapping[int, tuple[Duration, Duration, Duration]],
) -> list[pb.InferBatchStatistics]:
    return [
        pb.InferBatchStatistics(
            batch_size=size,
            compute_input=_duration(before),
            compute_infer=_duration(run),
            compute_output=_duration(after),
        )
        for size, (before, run, after) in sorted(batches.items())
    ]


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
