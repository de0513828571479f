"""SQL kept in files: named statements, each with its purpose."""

import re
from collections.abc import Iterator, Mapping
from importlib import resources

_HEADER = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)


class Queries(Mapping[str, str]):
    """The statements of one `.sql` file, by name: `queries.get_task`."""

    def __init__(self, statements: Mapping[str, str]) -> None:
        self._statements = dict(statements)

    def __getitem__(self, name: str) -> str:
        return self._statements[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(name) from None


def parse_queries(text: str) -> Queries:
    """Split `text` at its `-- name: NAME` lines.

    Raises:
        ValueError: a name stands twice, a statement is empty, or SQL stands before the
            first name.
    """
    statements: dict[str, str] = {}
    headers = list(_HEADER.finditer(text))
    preamble = text[: headers[0].start()] if headers else text
    if _without_comments(preamble):
        raise ValueError("SQL before the first '-- name:' line")
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        name = header["name"]
        body = text[header.end() : following.start() if following else None].strip()
        if name in statements:
            raise ValueError(f"statement {name!r} stands twice")
        if not _without_comments(body):
            raise ValueError(f"statement {name!r} is empty")
        statements[name] = body
    return Queries(statements)


def _without_comments(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip()


def load_queries(package: str, path: str = "sql/queries.sql") -> Queries:
    """Read the statements in the file `path` of `package`.

    Raises:
        FileNotFoundError: the package has no such file.
        ValueError: the file is badly formed; see `parse_queries`.
    """
    return parse_queries(resources.files(package).joinpath(path).read_text("utf-8"))
