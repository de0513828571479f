"""Reads a catalogue from YAML, and says precisely what is wrong with it."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from router_svc.catalogue.models import Catalogue, Model

DEFAULT_SOURCE = "router_svc/catalogue/default.yaml"


class CatalogueError(Exception):
    """A catalogue that cannot be used.

    Attributes:
        source: The file, as the operator knows it.
        problems: One line for each fault, naming entry and field.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super().__init__(source, tuple(problems))
        self.source = source
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n  ".join([f"catalogue {self.source}:", *self.problems])


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  (the signature is yaml's)
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def load_default() -> Catalogue:
    """Returns the catalogue that comes with the package."""
    text = resources.files("router_svc.catalogue").joinpath("default.yaml").read_text("utf-8")
    return parse(text, source=DEFAULT_SOURCE)


def load(path: Path) -> Catalogue:
    """Returns the catalogue in the file `path`.

    Raises:
        CatalogueError: The file cannot be read, or `parse` refuses its text.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(str(path), [f"cannot be read: {error}"]) from error
    return parse(text, source=str(path))


def parse(text: str, *, source: str) -> Catalogue:
    """Returns the catalogue that the YAML `text` describes.

    Raises:
        CatalogueError: The text is not YAML, a field is missing, unknown or out of
            its limits, or the models contradict one another.
    """
    try:
        # _StrictLoader is a SafeLoader: it builds plain data only.
        data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise CatalogueError(source, [f"is not YAML: {error}"]) from error
    if not isinstance(data, dict):
        raise CatalogueError(source, ["must be a mapping with the key `models`"])
    try:
        catalogue = Catalogue.model_validate(data)
    except ValidationError as error:
        raise CatalogueError(source, [_line(data, fault) for fault in error.errors()]) from error
    return check(catalogue, source=source)


def check(catalogue: Catalogue, *, source: str) -> Catalogue:
    """Returns `catalogue` when its models agree with one another.

    Raises:
        CatalogueError: A name is used twice, a fallback is unknown or the model
            itself, or fallbacks form a cycle.
    """
    problems = [*_doubled_names(catalogue.models), *_unknown_fallbacks(catalogue.models)]
    if not problems:
        problems = list(_cycles(catalogue.models))
    if problems:
        raise CatalogueError(source, problems)
    return catalogue


def _line(data: Mapping[str, Any], fault: Any) -> str:
    """Returns a line such as `models[1] (small): quality: must be at most 1`."""
    where, rest = "", list(fault["loc"])
    if len(rest) > 1 and rest[0] == "models":
        entry = data["models"][rest[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"models[{rest[1]}]" + (f" ({name})" if name else "") + ": "
        # Pydantic puts the kind of a provider into the path, which is no field.
        rest = [part for part in rest[2:] if part not in ("extractive", "openai")]
    field = ".".join(str(part) for part in rest)
    return f"{where}{field}: {fault['msg']}" if field else f"{where}{fault['msg']}"


def _doubled_names(models: Sequence[Model]) -> Iterator[str]:
    first: dict[str, int] = {}
    for index, model in enumerate(models):
        if model.name in first:
            yield (
                f"models[{index}] ({model.name}): name: already used by models[{first[model.name]}]"
            )
        first.setdefault(model.name, index)


def _unknown_fallbacks(models: Sequence[Model]) -> Iterator[str]:
    names = {model.name for model in models}
    for index, model in enumerate(models):
        for fallback in model.fallbacks:
            if fallback not in names:
                yield (
                    f"models[{index}] ({model.name}): fallbacks: no model is called {fallback!r}"
                )


def _cycles(models: Sequence[Model]) -> Iterator[str]:
    """Yields one line for each cycle, at the first model of the file that is on it."""
    fallbacks = {model.name: model.fallbacks for model in models}
    done: set[str] = set()
    for index, model in enumerate(models):
        cycle = _cycle_from(model.name, fallbacks, path=(), done=done)
        if cycle:
            yield f"models[{index}] ({model.name}): fallbacks: form a cycle: {' -> '.join(cycle)}"


def _cycle_from(
    name: str, fallbacks: Mapping[str, Sequence[str]], *, path: tuple[str, ...], done: set[str]
) -> tuple[str, ...]:
    if name in path:
        return (*path[path.index(name) :], name)
    if name in done:
        return ()
    found: tuple[str, ...] = ()
    for fallback in fallbacks[name]:
        found = found or _cycle_from(fallback, fallbacks, path=(*path, name), done=done)
    done.add(name)
    return found
