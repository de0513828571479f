"""Where the versions of one model come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from model_svc.generation.ports import GeneratorModel, TextGenerator
from model_svc.ports import Model, TextModel
from model_svc.repository.parameters import Parameters
from model_svc.running.plan import RunPlan, TextPlan
from stepwire.api.inference import model_config_pb2 as pb


class EncoderModel(Model, TextModel, Protocol):
    """A model that takes texts and tensors."""


class Loader(Protocol):
    """Loads models so that they can be run. Its methods block.

    Each raises ModelLoadError if the model cannot be loaded.
    """

    def load(self, name: str, version: str, path: Path, plan: RunPlan) -> Model:
        """Loads an ONNX file."""

    def load_text(
        self, name: str, version: str, path: Path, text: TextPlan, plan: RunPlan
    ) -> EncoderModel:
        """Loads an ONNX file that reads texts."""

    def load_generator(
        self, name: str, version: str, folder: Path, plan: RunPlan
    ) -> GeneratorModel:
        """Loads the model of a folder that writes texts."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a model at one time.

    Attributes:
        config: Its configuration, as far as it is written; its name is set.
        configured: Whether it is written at all.
        parameters: The parameters of the configuration.
        versions: The versions that are to be served, the oldest first; each with a text
            that changes whenever the version or the configuration does.
    """

    config: pb.ModelConfig
    configured: bool
    parameters: Parameters
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that was loaded.

    Attributes:
        model: It.
        text: The same, if it reads texts.
        generator: The same, if it writes texts.
    """

    model: Model
    text: TextModel | None = None
    generator: TextGenerator | None = None


class TextUse(Enum):
    """What a model does with texts."""

    READS = auto()
    WRITES = auto()


class Source(Protocol):
    """Where the versions of one model come from. Its methods block."""

    def text_use(self) -> TextUse | None:
        """Returns what the model does with texts, by its files; None for nothing.

        Of a model that cannot be loaded, too, as far as its files tell it.
        """

    def look(self) -> Found:
        """Returns what there is of the model now.

        Raises:
            ModelLoadError: It has no version, or cannot be served by its configuration.
        """

    def load(self, found: Found, version: str) -> Loaded:
        """Loads one of the versions found.

        Raises:
            ModelLoadError: It cannot be loaded.
        """
