"""What an ensemble's configuration says: which model is given which tensors, and when."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from model_svc.sessions.errors import ModelLoadError
from stepwire.api.inference import model_config_pb2 as pb


@dataclass(frozen=True, slots=True)
class Step:
    """One of the models.

    Attributes:
        model: Its name.
        version: Its version; empty for the latest.
        inputs: By each input of it, the ensemble's tensor that it is given.
        outputs: By each output of it that is wanted, the ensemble's tensor that it becomes.
    """

    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def plan_steps(config: pb.ModelConfig) -> list[Step]:
    """Returns the steps, each after those whose tensors it needs.

    Raises:
        ModelLoadError: A tensor comes from nowhere, from two steps, or from itself.
    """
    steps = [
        Step(
            step.model_name,
            str(step.model_version) if step.model_version > 0 else "",
            dict(step.input_map),
            dict(step.output_map),
        )
        for step in config.ensemble_scheduling.step
    ]
    _check(config, steps)
    known = {tensor.name for tensor in config.input}
    ordered: list[Step] = []
    left = steps
    while left:
        ready = [step for step in left if known.issuperset(step.inputs.values())]
        if not ready:
            missing = {name for step in left for name in step.inputs.values()} - known
            raise _fault(config, f"no step can give {', '.join(sorted(missing))} in time")
        ordered += ready
        known |= {name for step in ready for name in step.outputs.values()}
        left = [step for step in left if step not in ready]
    if missing := {tensor.name for tensor in config.output} - known:
        raise _fault(config, f"no step gives the output {', '.join(sorted(missing))}")
    return ordered


def needed_steps(steps: Sequence[Step], outputs: Iterable[str]) -> list[Step]:
    """Returns the steps without which these tensors cannot be had, in their order."""
    wanted, needed = set(outputs), list[Step]()
    for step in reversed(steps):
        if not wanted.isdisjoint(step.outputs.values()):
            needed.append(step)
            wanted |= set(step.inputs.values())
    return needed[::-1]


def _check(config: pb.ModelConfig, steps: Sequence[Step]) -> None:
    if not config.input or not config.output:
        raise _fault(config, "an ensemble must name its input and output")
    given = [tensor.name for tensor in config.input]
    given += [name for step in steps for name in step.outputs.values()]
    if twice := {name for name in given if given.count(name) > 1}:
        raise _fault(config, f"tensor {', '.join(sorted(twice))} is given twice")
    wanted = [tensor.name for tensor in config.output]
    if not all((*given, *wanted)):
        raise _fault(config, "each tensor must have a name")
    if len(set(wanted)) < len(wanted):
        raise _fault(config, "an output is named twice")
    if any(step.model_version < -1 for step in config.ensemble_scheduling.step):
        raise _fault(config, "model_version must be -1, 0 or a version")
    if not all(step.model and step.inputs and step.outputs for step in steps):
        raise _fault(config, "each step must have a model_name, an input_map and an output_map")


def _fault(config: pb.ModelConfig, text: str) -> ModelLoadError:
    return ModelLoadError(f"model {config.name}: config.pbtxt: {text}")
