import json
from pathlib import Path

import pytest

from model_svc.repository.config import parse_config
from model_svc.repository.effects import Kind, check_effects, unheeded
from model_svc.repository.interface import interface_changed, narrowed
from model_svc.repository.parameters import Parameters, parse_parameters
from model_svc.repository.plans import run_plan
from model_svc.repository.text_files import text_plan
from model_svc.running.plan import Pooling, RunPlan, TextPlan
from model_svc.sessions.errors import ModelLoadError
from model_svc.tensors import TensorSpec, are_batched

X = TensorSpec("x", "FP32", ("batch", 2, "n"))


def parameter(name: str, text: str) -> str:
    return f"parameters {{ key: '{name}' value {{ string_value: '{text}' }} }}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_batch_sise: 1", 'no field named "max_batch_sise"'),
        ("max_batch_size: 'four'", "Couldn't parse integer"),
        ("max_batch_size: -1", "must not be negative"),
        ("optimization { cuda { graphs: true } }", 'no field named "optimization"'),
        ("name: 'other'", "name is 'other', must be that of the folder, 'm'"),
        ("platform: 'pytorch_libtorch'", "platform is 'pytorch_libtorch'"),
        ("backend: 'python'", "backend is 'python'"),
        ("default_model_filename: '../model.onnx'", "must be the name of a file"),
        ("instance_group {} instance_group {}", "at most one instance_group"),
        ("instance_group { count: 65 }", "from 0 to 64"),
        ("instance_group { kind: KIND_MODEL }", "KIND_MODEL"),
        ("instance_group { kind: 7 }", "instance_group.kind is not known"),
        ("input { name: 'x' data_type: 99 }", "data_type of an input or output is not known"),
        ("dynamic_batching {}", "dynamic_batching needs a max_batch_size"),
        (
            # Triton's DELAY, by its number.
            "dynamic_batching { default_queue_policy { timeout_action: 1 } }",
            "timeout_action must be REJECT",
        ),
        ("dynamic_batching { priority_levels: 65 }", "priority_levels must be at most 64"),
        (
            "max_batch_size: 2 dynamic_batching { default_priority_level: 1 }",
            "must not be above priority_levels",
        ),
        ("version_policy { specific {} }", "must name versions"),
        ("version_policy { specific { versions: [0] } }", "must name versions"),
        ("platform: 'ensemble'", "go together"),
        ("ensemble_scheduling {}", "go together"),
        ("platform: 'ensemble' ensemble_scheduling {}", "from 1 to 32 steps"),
    ],
)
def test_a_configuration_that_cannot_be_followed_is_refused(text: str, says: str) -> None:
    with pytest.raises(ModelLoadError) as raised:
        parse_config(text, "m")
    assert "model m: config.pbtxt: " in str(raised.value)
    assert says in str(raised.value)


def test_triton_s_own_words_become_a_plan() -> None:
    config = parse_config(
        """
        name: "m"
        platform: "onnxruntime_onnx"
        max_batch_size: 8
        dynamic_batching {
          preferred_batch_size: [4, 8]
          max_queue_delay_microseconds: 500
          priority_levels: 3
          default_priority_level: 2
          default_queue_policy { default_timeout_microseconds: 2000000 max_queue_size: 16 }
        }
        instance_group [ { count: 2 kind: KIND_CPU } ]
        response_cache { enable: true }
        """
        + parameter("weight", "0.5")
        + parameter("intra_op_thread_count", "1")
        + parameter("cpu_max_batch_size", "5")
        + parameter("gpu_mem_limit", "4294967200")
        + parameter("arena_extend_strategy", "1"),
        "m",
    )
    plan = run_plan(config, parse_parameters(config), configured=True, cache_bytes=100)
    assert plan == RunPlan(
        max_batch_rows=8,
        max_delay_seconds=0.0005,
        max_waiting=16,
        priority_levels=3,
        default_priority=2,
        default_timeout_seconds=2.0,
        instances=2,
        weight=0.5,
        provider="cpu",
        threads=1,
        cpu_batch_rows=5,
        gpu_memory_bytes=4_294_967_200,
        gpu_memory_growth="requested",
        cache_bytes=100,
    )


def test_without_dynamic_batching_requests_run_one_by_one() -> None:
    config = parse_config("max_batch_size: 8", "m")
    assert run_plan(config, Parameters(), configured=True, cache_bytes=1).max_batch_rows == 0
    assert run_plan(config, Parameters(), configured=False, cache_bytes=1).max_batch_rows is None


QUEUE = "dynamic_batching { priority_levels: 3 default_queue_policy { max_queue_size: 2 } }"
SLOW = "dynamic_batching { priority_levels: 3 max_queue_delay_microseconds: 5 }"


@pytest.mark.parametrize(
    ("kind", "text", "idle"),
    [
        (Kind.TENSORS, "response_cache { enable: true } instance_group { count: 2 }", ""),
        (Kind.TENSORS, SLOW, "max_queue_delay_microseconds without max_batch_size"),
        (Kind.TENSORS, parameter("pooling", "mean"), "parameter pooling"),
        (Kind.READS, parameter("cpu_max_batch_size", "2"), "parameter cpu_max_batch_size"),
        (
            Kind.TENSORS,
            "max_batch_size: 4 " + parameter("cpu_max_batch_size", "2"),
            "parameter cpu_max_batch_size without dynamic_batching",
        ),
        (Kind.WRITES, parameter("gpu_mem_limit", "2"), "parameter gpu_mem_limit"),
        (Kind.READS, SLOW + parameter("pooling", "mean") + parameter("weight", "2"), ""),
        (Kind.WRITES, QUEUE + parameter("weight", "2"), ""),
        (Kind.WRITES, f"max_batch_size: 2 {SLOW}", "max_batch_size, dynamic_batching.max_queue_"),
        (Kind.WRITES, "response_cache { enable: true }", "response_cache"),
        (Kind.WRITES, "instance_group { count: 2 }", "instance_group.count above 1"),
        (Kind.ENSEMBLE, parameter("allow_interface_change", "true"), ""),
        (
            Kind.ENSEMBLE,
            "instance_group {} response_cache { enable: true }" + parameter("weight", "2"),
            "response_cache, instance_group, parameter weight",
        ),
    ],
)
def test_what_has_no_effect_on_a_kind_of_model_is_refused(kind: Kind, text: str, idle: str) -> None:
    config = parse_config(text, "m")
    if not idle:
        check_effects(config, kind)
        return
    with pytest.raises(ModelLoadError) as raised:
        check_effects(config, kind)
    assert f"{idle}" in str(raised.value)
    assert f"without effect on a model that {kind}" in str(raised.value)


def test_what_no_model_heeds_is_told() -> None:
    config = parse_config(
        "max_batch_size: 2 dynamic_batching { preferred_batch_size: 2 preserve_ordering: true }",
        "m",
    )
    assert unheeded(config) == [
        "dynamic_batching.preferred_batch_size",
        "dynamic_batching.preserve_ordering",
    ]
    assert unheeded(parse_config(QUEUE, "m")) == []


@pytest.mark.parametrize(
    ("name", "text", "must_be"),
    [
        ("poolink", "mean", "is not known"),
        ("pooling", "max", "must be mean or cls or none"),
        ("normalize", "yes", "must be true or false"),
        ("weight", "0", "must be a number above 0"),
        ("weight", "nan", "must be a number above 0"),
        ("weight", "heavy", "must be a number above 0"),
        ("max_tokens", "0", "must be a whole number from 1 to"),
        ("matryoshka_dimensions", "64,", "numbers with commas between them, each a whole"),
        ("intra_op_thread_count", "-1", "must be a whole number from 1 to 256"),
        ("gpu_mem_limit", "4 GiB", "must be a whole number from 1 to"),
        ("arena_extend_strategy", "2", "must be 0 or 1"),
    ],
)
def test_parameters_are_checked(name: str, text: str, must_be: str) -> None:
    with pytest.raises(ModelLoadError) as raised:
        parse_parameters(parse_config(parameter(name, text), "m"))
    assert f"model m: parameter {name}" in str(raised.value)
    assert must_be in str(raised.value)


def test_sizes_may_be_narrowed() -> None:
    config = parse_config(
        "max_batch_size: 4 input { name: 'x' data_type: TYPE_FP32 dims: [2, 7] }", "m"
    )
    assert narrowed(config, "input", config.input, [X]) == [
        TensorSpec("x", "FP32", ("batch", 2, 7))
    ]
    config = parse_config("input { name: 'x' data_type: TYPE_FP32 dims: [4, 2, -1] }", "m")
    assert narrowed(config, "input", config.input, [X]) == [TensorSpec("x", "FP32", (4, 2, "n"))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: 'x' data_type: TYPE_FP32 dims: [3, -1]", "has dims [3, -1]"),
        ("name: 'x' data_type: TYPE_FP32 dims: [2]", "has dims [2]"),
        ("name: 'x' data_type: TYPE_FP32 dims: [2, -2]", "has dims [2, -2]"),
        ("name: 'x' data_type: TYPE_FP16 dims: [2, -1]", "is FP32 in the model, not TYPE_FP16"),
        ("name: 'x' dims: [2, -1]", "not TYPE_INVALID"),
        ("name: 'y' data_type: TYPE_FP32 dims: [2, -1]", "has no input y"),
    ],
)
def test_tensors_that_do_not_fit_the_model_are_refused(text: str, says: str) -> None:
    config = parse_config(f"max_batch_size: 4 input {{ {text} }}", "m")
    with pytest.raises(ModelLoadError) as raised:
        narrowed(config, "input", config.input, [X])
    assert says in str(raised.value)


def test_all_inputs_must_be_named_and_the_first_size_be_free_to_batch() -> None:
    both = [X, TensorSpec("z", "FP32", ("batch",))]
    config = parse_config("input { name: 'x' data_type: TYPE_FP32 dims: [-1, 2, -1] }", "m")
    with pytest.raises(ModelLoadError, match="input z is missing"):
        narrowed(config, "input", config.input, both)
    outputs = narrowed(config, "output", config.input, both)
    assert [spec.name for spec in outputs] == ["x"]
    with pytest.raises(ModelLoadError, match="first size of input f is fixed"):
        narrowed(
            parse_config("max_batch_size: 1", "m"), "input", [], [TensorSpec("f", "FP32", (1,))]
        )


def test_names_of_sizes_are_not_part_of_the_interface() -> None:
    assert not interface_changed([X], [TensorSpec("x", "FP32", ("rows", 2, ""))])
    assert interface_changed([X], [TensorSpec("x", "FP32", ("batch", 3, "n"))])
    assert interface_changed([X], [TensorSpec("x", "FP16", ("batch", 2, "n"))])
    assert interface_changed([X], [])


def test_rows_are_taken_to_be_independent_only_where_the_graph_says_so() -> None:
    assert are_batched([X, TensorSpec("y", "FP32", ("batch",))])
    assert are_batched([TensorSpec("y", "FP32", ("Batch_size", 3))])
    assert not are_batched([X, TensorSpec("y", "FP32", ("n",))])
    assert not are_batched([X, TensorSpec("y", "FP32", ())])
    assert not are_batched([TensorSpec("y", "FP32", ("",))])
    assert not are_batched([TensorSpec("y", "FP32", (1, "batch"))])


def write(folder: Path, **files: object) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(content))
    return folder


def test_a_model_without_a_tokenizer_reads_no_texts(tmp_path: Path) -> None:
    assert text_plan(write(tmp_path, config={}), Parameters()) is None


def test_a_tokenizer_alone_means_the_usual(tmp_path: Path) -> None:
    folder = write(tmp_path, tokenizer={})
    assert text_plan(folder, Parameters()) == TextPlan(tmp_path / "tokenizer.json")


def test_the_model_s_own_files_are_followed(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        tokenizer={},
        tokenizer_config={"model_max_length": 10**30},
        sentence_bert_config={"max_seq_length": 128},
        config={"max_position_embeddings": 512},
        modules=[{"type": "sentence_transformers.models.Transformer"}],
        config_sentence_transformers={"prompts": {"query": "query: ", "passage": "passage: "}},
        **{"1_Pooling__config": {"pooling_mode_cls_token": True, "include_prompt": True}},
    )
    assert text_plan(folder, Parameters()) == TextPlan(
        tmp_path / "tokenizer.json",
        max_tokens=128,
        pooling=Pooling.FIRST,
        normalize=False,
        query_prefix="query: ",
        document_prefix="passage: ",
    )
    said = Parameters(
        pooling="none", normalize=True, max_tokens=7, query_prefix="", document_prefix="d"
    )
    assert text_plan(folder, said) == TextPlan(
        tmp_path / "tokenizer.json",
        max_tokens=7,
        pooling=None,
        normalize=True,
        query_prefix="",
        document_prefix="d",
    )


def test_positions_that_no_token_can_have_do_not_count(tmp_path: Path) -> None:
    config = {"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    folder = write(tmp_path, tokenizer={}, config=config)
    plan = text_plan(folder, Parameters())
    assert plan is not None
    assert plan.max_tokens == 512


def test_a_pooling_that_is_not_known_and_files_that_are_no_json_are_refused(
    tmp_path: Path,
) -> None:
    folder = write(
        tmp_path, tokenizer={}, **{"1_Pooling__config": {"pooling_mode_max_tokens": True}}
    )
    with pytest.raises(ModelLoadError, match=r"pooling_mode_max_tokens.* is not supported"):
        text_plan(folder, Parameters())
    (folder / "modules.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"modules.json"):
        text_plan(folder, Parameters(pooling="mean"))
