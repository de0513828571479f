"""Which models are served, under which names and versions."""

from collections.abc import Mapping
from dataclasses import dataclass

from model_svc.ports import Embedder, Model
from stepwire.errors import Reason, StepwireError


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One version of a model."""

    name: str
    version: str
    model: Model


class Repository:
    """The models that are served. All are loaded before it is made; it does not change."""

    def __init__(
        self,
        models: Mapping[str, Mapping[str, Model]],
        *,
        embedders: Mapping[str, Embedder],
        default_model: str,
    ) -> None:
        """Serves models.

        Args:
            models: By name, then by version; versions are positive whole numbers.
            embedders: The models that read texts, by name.
            default_model: Name of the embedder for calls that name none.
        """
        self._models = models
        self._embedders = embedders
        self._default_model = default_model

    @property
    def names(self) -> list[str]:
        """Names of the models."""
        return sorted(self._models)

    def find(self, name: str, version: str) -> ServedModel:
        """Returns a model; without a version, its latest.

        Raises:
            StepwireError: MODEL_NOT_FOUND.
        """
        versions = self._models.get(name)
        if versions is None:
            raise _not_found(name, f"no model {name!r} is served")
        if not version:
            version = max(versions, key=int)
        elif version not in versions:
            raise _not_found(
                name, f"model {name!r} has no version {version!r}, only {', '.join(versions)}"
            )
        return ServedModel(name, version, versions[version])

    def versions(self, name: str) -> list[str]:
        """Returns the versions of a model that is served, the oldest first."""
        return sorted(self._models[name], key=int)

    def embedder(self, name: str) -> tuple[str, Embedder]:
        """Returns a model that reads texts, and its name; the default one for no name.

        Raises:
            StepwireError: MODEL_NOT_FOUND; MODEL_INPUT_INVALID if the model reads no texts.
        """
        name = name or self._default_model
        embedder = self._embedders.get(name)
        if embedder is None:
            self.find(name, "")
            raise StepwireError(
                Reason.MODEL_INPUT_INVALID,
                f"model {name!r} does not read texts",
                metadata={"model": name},
            )
        return name, embedder


def _not_found(model: str, message: str) -> StepwireError:
    return StepwireError(Reason.MODEL_NOT_FOUND, message, metadata={"model": model})
