"""Reads a catalogue from YAML, and says precisely what is wrong with it."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from router_svc.catalogue.document import Document
from router_svc.catalogue.faults import CatalogueError
from router_svc.catalogue.models import Catalogue
from router_svc.catalogue.rules import problems_of

DEFAULT_SOURCE = "router_svc/catalogue/default.yaml"

# Pydantic puts the kind of a provider into the path, which is no field.
_PROVIDER_KINDS = ("extractive", "hosted", "openai")


def default_text() -> str:
    """Returns the text of the catalogue that comes with the package."""
    return resources.files("router_svc.catalogue").joinpath("default.yaml").read_text("utf-8")


def load_default() -> Catalogue:
    """Returns the catalogue that comes with the package."""
    return parse(default_text(), source=DEFAULT_SOURCE)


def read_text(path: Path) -> str:
    """Returns the text of the file `path`.

    Raises:
        CatalogueError: The file cannot be read.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(str(path), [f"cannot be read: {error}"]) from error


def load(path: Path) -> Catalogue:
    """Returns the catalogue in the file `path`.

    Raises:
        CatalogueError: The file cannot be read, or `parse` refuses its text.
    """
    return parse(read_text(path), source=str(path))


def parse(text: str, *, source: str) -> Catalogue:
    """Returns the catalogue that the YAML `text` describes.

    Raises:
        CatalogueError: The text is not YAML, a field is missing, unknown or out of
            its limits, or the models contradict one another.
    """
    document = Document(text, source=source)
    try:
        catalogue = Catalogue.model_validate(document.data)
    except ValidationError as error:
        problems = [_told(document, fault["loc"], fault["msg"]) for fault in error.errors()]
        raise CatalogueError(source, problems) from error
    if found := problems_of(catalogue):
        raise CatalogueError(source, [_told(document, path, told) for path, told in found])
    return catalogue


def check(catalogue: Catalogue, *, source: str) -> Catalogue:
    """Returns a catalogue that was not read from one text, when its models agree.

    Raises:
        CatalogueError: They contradict one another.
    """
    if found := problems_of(catalogue):
        raise CatalogueError(source, [_named(catalogue, path, told) for path, told in found])
    return catalogue


def _named(catalogue: Catalogue, path: Sequence[str | int], told: str) -> str:
    entries = [{"name": model.name} for model in catalogue.models]
    where, field, _ = _place({"models": entries}, path)
    return f"{where}{field}: {told}"


def _told(document: Document, path: Sequence[str | int], told: str) -> str:
    """Returns a line such as `models[1] (small): quality: must be at most 1 (line 14)`."""
    where, field, plain = _place(document.data, path)
    label = f"{where}{field}: " if field else where
    return f"{label}{told} (line {document.line_of(plain)})"


def _place(data: Any, path: Sequence[str | int]) -> tuple[str, str, list[str | int]]:
    """Returns the entry's label, the field's path in it, and the path in the document."""
    plain = list(path)
    if len(plain) < 2 or plain[0] != "models":  # noqa: PLR2004  (the list and a place in it)
        return "", _dotted(plain), plain
    listed = isinstance(data["models"], list)
    entry = data["models"][plain[1]] if listed else None
    name = entry.get("name") if isinstance(entry, dict) else None
    rest = [
        part
        for place, part in enumerate(plain[2:])
        if not (place == 1 and plain[2] == "provider" and part in _PROVIDER_KINDS)
    ]
    where = f"models[{plain[1]}]" + (f" ({name})" if name else "") + ": "
    return where, _dotted(rest), [*plain[:2], *rest]


def _dotted(path: Sequence[str | int]) -> str:
    """Returns `prices[0].valid_from` for its parts."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
