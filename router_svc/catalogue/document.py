"""A YAML document whose fields are known by line, so that a fault can be found."""

from collections.abc import Sequence
from typing import Any

import yaml

from router_svc.catalogue.faults import CatalogueError


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML keeps the last."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002  (the signature is yaml's)
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            # Such as a 30th of February, which has the form of a date and is none.
            raise yaml.constructor.ConstructorError(
                None, None, f"a value cannot be read: {error}", node.start_mark
            ) from error

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


class Document:
    """The plain data of a YAML text, and where in it each field stands.

    Args:
        text: The text.
        source: The file, for errors.

    Raises:
        CatalogueError: The text is not YAML, gives a key twice, has a value that is not
            what it looks like, nests too deep, or is no mapping.
    """

    def __init__(self, text: str, *, source: str) -> None:
        try:
            # _StrictLoader is a SafeLoader: it builds plain data only.
            loader = _StrictLoader(text)
            root = loader.get_single_node()
            data = None if root is None else loader.construct_document(root)
        except yaml.YAMLError as error:
            raise CatalogueError(source, [f"is not YAML: {error}"]) from error
        except RecursionError as error:
            raise CatalogueError(source, ["nests too deep, or in itself"]) from error
        if not isinstance(data, dict):
            raise CatalogueError(source, ["must be a mapping with the key `models`"])
        self.data: dict[Any, Any] = data
        self._root = root

    def line_of(self, path: Sequence[str | int]) -> int:
        """Returns the line, from 1, of the field at `path`, or of what is nearest above it."""
        node, line = self._root, 1
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line


def _child(node: Any, part: str | int) -> tuple[int, Any] | None:
    """Returns the line and the node of one field of a mapping, or element of a list."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value.start_mark.line + 1, value
    return None
