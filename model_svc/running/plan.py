"""How a model is to run, as whoever loads it says."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

Provider = Literal["auto", "cpu", "cuda"]

# What is taken of a GPU's memory when more is needed.
Growth = Literal["doubled", "requested"]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """How one model is to run.

    Attributes:
        max_batch_rows: Up to how many rows calls run together; 0 if the first dimension is
            none of a batch, so that each call runs by itself; None to go by the graph (see
            `are_batched`). A larger call runs by itself.
        cpu_batch_rows: The same on a CPU; 0 for no other than `max_batch_rows`.
        max_delay_seconds: How long a batch that is not full waits for more.
        max_waiting: What may wait for a run, in tokens for a model that reads texts, else
            in rows (in calls, for calls that run by themselves).
        priority_levels: How many priorities calls may have, 1 the highest; 0 if calls have
            none.
        default_priority: That of calls that name none; 0 is the middle one.
        default_timeout_seconds: How long a call may wait that says nothing; 0 for as long
            as its deadline lets it.
        instances: How many batches may run side by side; 0 for as many as there are slots.
        weight: The model's share of the device beside other models.
        provider: Where it runs; `auto` is CUDA where this ONNX Runtime has it.
        threads: Threads that share a run on a CPU; 0 for as many as suit (see `Engine`).
        gpu_memory_bytes: Memory of a GPU that it may have; 0 for as much as others.
        gpu_memory_growth: What it takes of that at a time; None for the same as others.
        cache_bytes: Size of its response cache; 0 for none.
    """

    max_batch_rows: int | None = None
    cpu_batch_rows: int = 0
    max_delay_seconds: float = 0.0
    max_waiting: int = 0
    priority_levels: int = 0
    default_priority: int = 0
    default_timeout_seconds: float = 0.0
    instances: int = 0
    weight: float = 1.0
    provider: Provider = "auto"
    threads: int = 0
    gpu_memory_bytes: int = 0
    gpu_memory_growth: Growth | None = None
    cache_bytes: int = 0


class Pooling(StrEnum):
    """How the vectors of the tokens become the vector of the text."""

    MEAN = "mean"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class TextPlan:
    """What makes a model one that reads texts.

    Its graph takes `input_ids` and `attention_mask`, and perhaps `token_type_ids`.

    Attributes:
        tokenizer: A `tokenizer.json` of Hugging Face's tokenizers.
        max_tokens: Longest input, special tokens included.
        pooling: How a text's vector is made of its tokens'; None if the graph gives one
            vector per text.
        normalize: Whether vectors have length 1 unless a call says otherwise.
        query_prefix: What the model was trained to find before a text that asks.
        document_prefix: The same before a text that is found.
        matryoshka_dimensions: Lengths to which it was trained to have its vectors shortened.
    """

    tokenizer: Path
    max_tokens: int = 512
    pooling: Pooling | None = Pooling.MEAN
    normalize: bool = True
    query_prefix: str = ""
    document_prefix: str = ""
    matryoshka_dimensions: tuple[int, ...] = ()
