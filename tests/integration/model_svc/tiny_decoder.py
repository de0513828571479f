"""A tiny random decoder with its tokenizer, as onnxruntime-genai reads them, and a plain loop.

Two layers of attention with caches. What may follow what is ruled by a table, so that it
writes letters, and "é" as two tokens; after "z" it ends, and after "0" it never does.
"""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LAYERS, HEADS, WIDTH, CONTEXT = 2, 2, 8, 2_048
HIDDEN = HEADS * WIDTH
END = "</s>"
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}:{{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


_Node = tuple[str, list[str], str, dict[str, Any]]


def write_decoder(home: Path, *, provider: str = "") -> None:
    """Writes the model's folder; it asks for a provider of ONNX Runtime, or for none."""
    home.mkdir(parents=True)
    vocabulary = {
        character: index
        for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    vocabulary[END] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    tokenizer.save(str(home / "tokenizer.json"))
    _write(
        home / "tokenizer_config.json",
        {"tokenizer_class": "GPT2Tokenizer", "eos_token": END, "chat_template": TEMPLATE},
    )
    _write(home / "genai_config.json", _config(len(vocabulary), vocabulary[END], provider))
    onnx.save(_model(_rules(vocabulary)), home / "model.onnx")


class PlainLoop:
    """The same model in ONNX Runtime alone, without caches: the most probable token, always."""

    def __init__(self, home: Path) -> None:
        self._session = ort.InferenceSession(home / "model.onnx")
        self._tokenizer = Tokenizer.from_file(str(home / "tokenizer.json"))

    def write(self, prompt: str, max_tokens: int) -> tuple[str, int, bool]:
        """Returns the text, its tokens, and whether the model ended it."""
        ids = self._tokenizer.encode(prompt).ids
        written: list[int] = []
        while len(written) < max_tokens:
            written.append(self._next(ids + written))
            if self._tokenizer.id_to_token(written[-1]) == END:
                return self._tokenizer.decode(written), len(written), True
        return self._tokenizer.decode(written), len(written), False

    def _next(self, ids: list[int]) -> int:
        size = len(ids)
        inputs: dict[str, Any] = {
            "input_ids": np.array([ids]),
            "attention_mask": np.ones((1, size), dtype=np.int64),
            "position_ids": np.arange(size)[np.newaxis],
        }
        empty = np.zeros((1, HEADS, 0, WIDTH), dtype=np.float32)
        inputs |= dict.fromkeys(_caches("past_key_values"), empty)
        (logits,) = self._session.run(["logits"], inputs)
        return int(logits[0, -1].argmax())


def _rules(vocabulary: dict[str, int]) -> Any:
    """By token, what is added to the scores of those that may follow: 0, or a great deal less."""
    rules = np.full((len(vocabulary), len(vocabulary)), -1e4, dtype=np.float32)
    usual = [vocabulary[character] for character in (*string.ascii_lowercase, "Ã")]
    rules[:, usual] = 0
    for first, second in (("Ã", "©"), ("z", END), ("0", "0")):
        rules[vocabulary[first]] = -1e4
        rules[vocabulary[first], vocabulary[second]] = 0
    return rules


def _model(rules: Any) -> onnx.ModelProto:
    random = np.random.default_rng(3)
    constants = {
        "rules": rules,
        "positions": random.normal(0, 1, (CONTEXT, HIDDEN)),
        "words": random.normal(0, 1, (len(rules), HIDDEN)),
        "head": random.normal(0, 1, (HIDDEN, len(rules))),
        "scale": np.array(WIDTH**-0.5),
        "never": np.array(-1e9),
    }
    whole = {
        "split": [0, 0, HEADS, WIDTH],
        "join": [0, 0, HIDDEN],
        "zero": 0,
        "one": 1,
        "queries": [1, 3],
    }
    nodes: list[_Node] = [
        ("Gather", ["words", "input_ids"], "word", {}),
        ("Gather", ["positions", "position_ids"], "position", {}),
        ("Add", ["word", "position"], "hidden0", {}),
        ("Shape", ["attention_mask"], "shape", {}),
        ("Gather", ["shape", "one"], "total", {}),
        ("Range", ["zero", "total", "one"], "keys", {}),
        ("Unsqueeze", ["position_ids", "queries"], "query_positions", {}),
        ("LessOrEqual", ["keys", "query_positions"], "seen", {}),
    ]
    for layer in range(LAYERS):
        constants |= {f"{kind}{layer}.w": random.normal(0, 0.5, (HIDDEN, HIDDEN)) for kind in "qkv"}
        nodes += _layer(layer)
    nodes += [
        ("MatMul", [f"hidden{LAYERS}", "head"], "free", {}),
        ("Gather", ["rules", "input_ids"], "ruled", {}),
        ("Add", ["free", "ruled"], "logits", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, into, [out], **more) for kind, into, out, more in nodes],
        "decoder",
        [
            *(
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", size])
                for name, size in (
                    ("input_ids", "new"),
                    ("attention_mask", "total"),
                    ("position_ids", "new"),
                )
            ),
            *(_cache(name, "past") for name in _caches("past_key_values")),
        ],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["batch", "new", len(rules)]
            ),
            *(_cache(name, "total") for name in _caches("present")),
        ],
        [
            *(_tensor(name, array, np.float32) for name, array in constants.items()),
            *(_tensor(name, array, np.int64) for name, array in whole.items()),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _layer(layer: int) -> list[_Node]:
    nodes: list[_Node] = []
    for kind in "qkv":
        name = f"{kind}{layer}"
        nodes += [
            ("MatMul", [f"hidden{layer}", f"{name}.w"], f"{name}.flat", {}),
            ("Reshape", [f"{name}.flat", "split"], f"{name}.split", {}),
            ("Transpose", [f"{name}.split"], name, {"perm": [0, 2, 1, 3]}),
        ]
    for kind, word in (("k", "key"), ("v", "value")):
        past, present = f"past_key_values.{layer}.{word}", f"present.{layer}.{word}"
        nodes.append(("Concat", [past, f"{kind}{layer}"], present, {"axis": 2}))
    keys, values = f"present.{layer}.key", f"present.{layer}.value"
    return [
        *nodes,
        ("Transpose", [keys], f"keys{layer}", {"perm": [0, 1, 3, 2]}),
        ("MatMul", [f"q{layer}", f"keys{layer}"], f"raw{layer}", {}),
        ("Mul", [f"raw{layer}", "scale"], f"scaled{layer}", {}),
        ("Where", ["seen", f"scaled{layer}", "never"], f"scores{layer}", {}),
        ("Softmax", [f"scores{layer}"], f"weights{layer}", {"axis": -1}),
        ("MatMul", [f"weights{layer}", values], f"heads{layer}", {}),
        ("Transpose", [f"heads{layer}"], f"turned{layer}", {"perm": [0, 2, 1, 3]}),
        ("Reshape", [f"turned{layer}", "join"], f"attended{layer}", {}),
        ("Add", [f"hidden{layer}", f"attended{layer}"], f"hidden{layer + 1}", {}),
    ]


def _config(vocabulary: int, end: int, provider: str) -> dict[str, Any]:
    return {
        "model": {
            "type": "llama",
            "bos_token_id": end,
            "eos_token_id": end,
            "pad_token_id": end,
            "vocab_size": vocabulary,
            "context_length": CONTEXT,
            "decoder": {
                "session_options": {"provider_options": [{provider: {}}] if provider else []},
                "filename": "model.onnx",
                "head_size": WIDTH,
                "hidden_size": HIDDEN,
                "num_attention_heads": HEADS,
                "num_hidden_layers": LAYERS,
                "num_key_value_heads": HEADS,
                "inputs": {
                    **{name: name for name in ("input_ids", "attention_mask", "position_ids")},
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {"do_sample": False, "past_present_share_buffer": False},
    }


def _caches(prefix: str) -> list[str]:
    return [f"{prefix}.{layer}.{kind}" for layer in range(LAYERS) for kind in ("key", "value")]


def _cache(name: str, size: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", HEADS, size, WIDTH])


def _tensor(name: str, array: Any, kind: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array, dtype=kind), name)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))
