"""Models that lie in a folder, in Triton's layout."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from model_svc.chains.model import Use
from model_svc.chains.opening import chain_model
from model_svc.export.cached import MODEL_FILE
from model_svc.export.checkpoint import TOKENIZER_FILE
from model_svc.file_marks import file_mark
from model_svc.generation.decoder import GENAI_FILE
from model_svc.repository.config import CONFIG_FILE, read_config
from model_svc.repository.effects import Kind, check_effects, unheeded
from model_svc.repository.parameters import parse_parameters
from model_svc.repository.plans import run_plan
from model_svc.repository.sources import Found, Loaded, Loader, TextUse
from model_svc.repository.text_files import text_plan
from model_svc.repository.versions import choose_versions
from model_svc.sessions.errors import ModelLoadError
from stepwire.api.inference import model_config_pb2 as pb

_logger = logging.getLogger(__name__)

_DIGEST_BYTES: Final = 16


class FolderSource:
    """A `Source`: `<model>/<version>/model.onnx`, perhaps with `<model>/config.pbtxt`.

    With `genai_config.json` in place of `model.onnx`, or beside it, a model writes texts.
    """

    def __init__(self, home: Path, loader: Loader, *, use: Use, cache_bytes: int) -> None:
        """Reads nothing yet.

        Args:
            home: Folder of the model; its name is the model's.
            loader: Loads its versions.
            use: Gives the models that it calls, if it is an ensemble.
            cache_bytes: Size of its response cache, should it be configured to have one.
        """
        self._home = home
        self._loader = loader
        self._use = use
        self._cache_bytes = cache_bytes

    def text_use(self) -> TextUse | None:
        """See `Source`; the latest version that has such files decides."""
        try:
            versions = [path for path in model_folders(self._home) if _is_version(path.name)]
        except OSError:
            return None
        for home in sorted(versions, key=lambda path: int(path.name), reverse=True):
            if (home / GENAI_FILE).is_file():
                return TextUse.WRITES
            if (home / TOKENIZER_FILE).is_file():
                return TextUse.READS
        return None

    def look(self) -> Found:
        """See `Source`."""
        with self._without_folder():
            return self._look()

    def load(self, found: Found, version: str) -> Loaded:
        """See `Source`."""
        with self._without_folder():
            return self._load(found, version)

    @contextmanager
    def _without_folder(self) -> Iterator[None]:
        """Leaves out of errors where the folder is: callers are told them."""
        try:
            yield
        except ModelLoadError as error:
            raise ModelLoadError(str(error).replace(f"{self._home.parent}/", "")) from error

    def _look(self) -> Found:
        if told_name(self._home) != self._home.name:
            raise ModelLoadError(f"model folder {told_name(self._home)}: its name is not UTF-8")
        written = read_config(self._home)
        config = written or _default_config(self._home.name)
        parameters = parse_parameters(config)
        try:
            present = {path.name: path for path in _versions(self._home, config)}
            chosen = choose_versions(self._home.name, present, config)
            versions = {version: _fingerprint(present[version], config) for version in chosen}
        except OSError as error:
            raise ModelLoadError(f"model {self._home.name}: {error}") from error
        return Found(config, written is not None, parameters, versions)

    def _load(self, found: Found, version: str) -> Loaded:
        config, name = found.config, self._home.name
        if fields := unheeded(config):
            _logger.warning("fields are not heeded", extra={"model": name, "fields": fields})
        if config.HasField("ensemble_scheduling"):
            check_effects(config, Kind.ENSEMBLE)
            return Loaded(chain_model(config, self._use))
        home = self._home / version
        path = home / config.default_model_filename
        plan = run_plan(
            config, found.parameters, configured=found.configured, cache_bytes=self._cache_bytes
        )
        if (home / GENAI_FILE).is_file():
            check_effects(config, Kind.WRITES)
            generator = self._loader.load_generator(name, version, home, plan)
            return Loaded(generator, generator=generator)
        text = text_plan(home, found.parameters)
        if text is None:
            check_effects(config, Kind.TENSORS)
            return Loaded(self._loader.load(name, version, path, plan))
        if config.input or config.output:
            raise ModelLoadError(
                f"model {name}: {CONFIG_FILE}: a model with a tokenizer has inputs and outputs of "
                "its own: leave out input and output"
            )
        encoder = self._loader.load_text(name, version, path, text, plan)
        return Loaded(encoder, encoder)


def model_folders(folder: Path) -> Iterator[Path]:
    """Returns the folders in a folder, those aside whose name begins with a dot.

    Raises:
        OSError: The folder cannot be read.
    """
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != ".")


def told_name(path: Path) -> str:
    """Returns the name of a file as it can be told: bytes that are not UTF-8 are replaced."""
    return os.fsencode(path.name).decode(errors="replace")


def _default_config(name: str) -> pb.ModelConfig:
    config = pb.ModelConfig(name=name, default_model_filename=MODEL_FILE)
    config.version_policy.all.SetInParent()
    return config


def _versions(home: Path, config: pb.ModelConfig) -> list[Path]:
    """The folders of versions that have a model file.

    Raises:
        ModelLoadError: There is none, or one whose name is not a number.
    """
    file = config.default_model_filename
    # Of an ensemble there is nothing but the folder, which may be empty.
    files = not config.HasField("ensemble_scheduling")
    versions = [
        folder
        for folder in model_folders(home)
        if not files or any((folder / name).is_file() for name in (file, GENAI_FILE))
    ]
    odd = [told_name(path) for path in versions if not _is_version(path.name)]
    if odd or not versions:
        raise ModelLoadError(
            f"model folder {home}: expected <version>/{file} with whole numbers as versions"
            + (f", found {', '.join(odd)}" if odd else "")
        )
    return versions


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdecimal() and name[0] != "0"


def _fingerprint(version: Path, config: pb.ModelConfig) -> str:
    """Changes with the configuration, and with the size or time of any file, drafts aside."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(config.SerializeToString(deterministic=True))
    for path in sorted(version.rglob("[!.]*")):
        digest.update(os.fsencode(path.relative_to(version)))
        digest.update(f"\0{file_mark(path)}\0".encode())
    return digest.hexdigest()
