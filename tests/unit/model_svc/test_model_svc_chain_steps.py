import pytest

from model_svc.chains.opening import chain_model
from model_svc.chains.steps import Step, needed_steps, plan_steps
from model_svc.repository.config import parse_config
from model_svc.sessions.errors import ModelLoadError
from model_svc.tensors import TensorSpec
from stepwire.api.inference import model_config_pb2 as pb

ENDS = """
platform: "ensemble"
input { name: "IN" data_type: TYPE_STRING dims: [-1] }
output { name: "OUT" data_type: TYPE_FP32 dims: [-1, 2] }
"""


def step(model: str, inputs: dict[str, str], outputs: dict[str, str], version: int = -1) -> str:
    def entries(field: str, names: dict[str, str]) -> str:
        return " ".join(f"{field} {{ key: '{key}' value: '{names[key]}' }}" for key in names)

    return (
        f"step {{ model_name: '{model}' model_version: {version} "
        f"{entries('input_map', inputs)} {entries('output_map', outputs)} }}"
    )


def ensemble(*steps: str, ends: str = ENDS) -> pb.ModelConfig:
    return parse_config(f"{ends} ensemble_scheduling {{ {' '.join(steps)} }}", "m")


FIRST = step("a", {"x": "IN"}, {"y": "mid"})
SECOND = step("b", {"x": "mid"}, {"y": "OUT"}, version=3)
ASIDE = step("c", {"x": "IN"}, {"y": "side"})


def test_steps_are_put_in_the_order_of_their_tensors() -> None:
    steps = plan_steps(ensemble(SECOND, ASIDE, FIRST))
    assert [each.model for each in steps] == ["c", "a", "b"]
    assert steps[2] == Step("b", "3", {"x": "mid"}, {"y": "OUT"})
    assert steps[1].version == ""


def test_only_what_is_needed_for_an_output_is_run() -> None:
    steps = plan_steps(ensemble(SECOND, ASIDE, FIRST))
    assert [each.model for each in needed_steps(steps, ["OUT"])] == ["a", "b"]
    assert needed_steps(steps, ["IN"]) == []


def test_an_ensemble_has_the_tensors_of_its_configuration() -> None:
    model = chain_model(ensemble(FIRST, SECOND, ends=f"max_batch_size: 4 {ENDS}"), lambda *_: None)
    assert model.inputs == [TensorSpec("IN", "BYTES", ("batch", ""))]
    assert model.outputs == [TensorSpec("OUT", "FP32", ("batch", "", 2))]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (ensemble(SECOND), "no step can give mid in time"),
        (
            ensemble(
                step("a", {"x": "p", "z": "IN"}, {"y": "q"}), step("b", {"x": "q"}, {"y": "p"})
            ),
            "no step can give p, q in time",
        ),
        (ensemble(FIRST), "no step gives the output OUT"),
        (ensemble(FIRST, SECOND, step("c", {"x": "IN"}, {"y": "mid"})), "mid is given twice"),
        (ensemble(step("a", {"x": "IN"}, {"y": "IN"})), "IN is given twice"),
        (ensemble(step("a", {"x": "IN"}, {"y": ""})), "each tensor must have a name"),
        (ensemble(FIRST, SECOND, ends=f"{ENDS} output {{ name: 'OUT' }}"), "named twice"),
        (ensemble(step("a", {"x": "IN"}, {"y": "OUT"}, version=-2)), "model_version must be -1"),
        (ensemble(step("", {"x": "IN"}, {"y": "OUT"})), "each step must have a model_name"),
        (ensemble(step("a", {}, {"y": "OUT"})), "each step must have a model_name, an input_map"),
        (ensemble(FIRST, SECOND, ends="platform: 'ensemble'"), "must name its input and output"),
        (
            ensemble(FIRST, SECOND, ends=ENDS.replace("data_type: TYPE_FP32", "")),
            "OUT must have a data_type",
        ),
        (ensemble(FIRST, SECOND, ends=ENDS.replace("[-1, 2]", "[-2]")), "dims from -1 on"),
    ],
)
def test_steps_that_do_not_go_together_are_refused(config: pb.ModelConfig, says: str) -> None:
    with pytest.raises(ModelLoadError) as raised:
        chain_model(config, lambda *_: None)
    assert says in str(raised.value)
