"""SQL files and migration files."""

import pytest

from stepwire.db import load_queries
from stepwire.db.migrations import read_migrations
from stepwire.db.queries import parse_queries


def test_statements_by_name():
    queries = parse_queries(
        "-- What is in here.\n\n-- name: one\n-- Purpose.\nSELECT 1\n\n-- name: two\nSELECT 2;\n"
    )
    assert list(queries) == ["one", "two"]
    assert queries.one == "-- Purpose.\nSELECT 1"
    assert queries["two"] == "SELECT 2;"
    assert len(queries) == 2
    with pytest.raises(AttributeError):
        _ = queries.three


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1\n-- name: one\nSELECT 1",
        "-- name: one\nSELECT 1\n-- name: one\nSELECT 2",
        "-- name: one\n-- only words\n-- name: two\nSELECT 2",
        "-- name: one\n",
    ],
    ids=["before-the-first", "twice", "empty", "empty-at-the-end"],
)
def test_badly_formed_files(text):
    with pytest.raises(ValueError):
        parse_queries(text)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        load_queries("stepwire", "sql/no_such_file.sql")


@pytest.fixture
def package(tmp_path, monkeypatch, request):
    name = f"package_of_{request.node.name.partition('[')[0]}_{tmp_path.name}"
    (tmp_path / name / "sql" / "migrations").mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return name, tmp_path / name / "sql" / "migrations"


def test_migrations_in_order(package):
    name, folder = package
    for file in ("0002_b.sql", "0001_a.sql", "0003_c.sql"):
        (folder / file).write_text(f"-- {file}")
    found = read_migrations(name)
    assert [migration.name for migration in found] == ["0001_a.sql", "0002_b.sql", "0003_c.sql"]
    assert len({migration.checksum for migration in found}) == 3


@pytest.mark.parametrize(
    "files",
    [
        ["0001_a.sql", "0003_c.sql"],
        ["0001_a.sql", "0001_b.sql"],
        ["0002_a.sql"],
        ["1_a.sql"],
        ["0001_A.sql"],
        ["0001_a.txt"],
        ["0001.sql"],
    ],
    ids=str,
)
def test_bad_names_of_migrations(package, files):
    name, folder = package
    for file in files:
        (folder / file).touch()
    with pytest.raises(ValueError):
        read_migrations(name)


@pytest.mark.parametrize("service", ["executor_svc", "vector_svc"])
def test_the_migrations_of_the_services(service):
    assert read_migrations(service)
