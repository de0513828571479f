"""Migrations against a real Postgres."""

import asyncio

import pytest

from stepwire.db import check_migrated, migrate, open_pool
from stepwire.db.pool import retryable
from stepwire.errors import Reason, StepwireError


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, application_name="test", max_size=5) as opened:
        yield opened


@pytest.fixture
def package(tmp_path, monkeypatch, request):
    name = f"migrating_{tmp_path.name}"
    folder = tmp_path / name / "sql" / "migrations"
    folder.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    (folder / "0001_first.sql").write_text("CREATE TABLE things.first (a integer)")
    return name, folder


async def test_each_migration_is_applied_once(pool, package):
    name, folder = package
    assert await migrate(pool, package=name, schema="things") == ["0001_first.sql"]
    assert await migrate(pool, package=name, schema="things") == []
    (folder / "0002_second.sql").write_text("ALTER TABLE things.first ADD b integer")
    assert await migrate(pool, package=name, schema="things") == ["0002_second.sql"]
    assert await pool.fetchval("SELECT count(*) FROM things.migrations") == 2


async def test_many_at_once_apply_it_once(pool, database_url):
    applied = await asyncio.gather(
        *(migrate(pool, package="executor_svc", schema="executor") for _ in range(5))
    )
    assert sorted(len(names) > 0 for names in applied) == [False] * 4 + [True]


async def test_a_changed_file_is_refused(pool, package):
    name, folder = package
    await migrate(pool, package=name, schema="things")
    (folder / "0001_first.sql").write_text("CREATE TABLE things.other (a integer)")
    with pytest.raises(ValueError, match="changed after it was applied"):
        await migrate(pool, package=name, schema="things")


async def test_a_migration_that_fails_leaves_nothing(pool, package):
    name, folder = package
    (folder / "0002_second.sql").write_text("CREATE TABLE things.second (a integer); SELECT 1/0")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(pool, package=name, schema="things")
    assert await pool.fetchval("SELECT to_regclass('things.first')") is None


@pytest.mark.parametrize("schema", ["", "Things", "a;b", "a.b"])
async def test_a_schema_has_a_plain_name(pool, schema):
    with pytest.raises(ValueError, match="not an identifier"):
        await migrate(pool, package="executor_svc", schema=schema)


async def test_tables_that_are_not_up_to_date_are_waited_for(pool, package):
    name, folder = package
    for number in (1, 2):
        (folder / f"000{number}_one_more.sql").write_text(f"CREATE TABLE things.t{number} ()")
        (folder / "0001_first.sql").unlink(missing_ok=True)
        with pytest.raises(StepwireError, match="1 migrations are missing") as caught:
            await check_migrated(pool, package=name, schema="things")
        assert caught.value.reason == Reason.DEPENDENCY_UNAVAILABLE
        await migrate(pool, package=name, schema="things")
        await check_migrated(pool, package=name, schema="things")


async def test_a_database_that_is_not_there(database_url):
    with pytest.raises(StepwireError) as caught:
        async with open_pool(f"{database_url}_not", application_name="test"):
            pass
    assert caught.value.reason == Reason.DEPENDENCY_UNAVAILABLE
    assert caught.value.metadata == {"dependency": "postgres"}


async def test_work_is_tried_again_on_a_fresh_connection(pool):
    tries = []

    @retryable(pause_seconds=0)
    async def work():
        async with pool.acquire() as connection:
            tries.append(await connection.fetchval("SELECT pg_backend_pid()"))
            if len(tries) < 3:
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            return await connection.fetchval("SELECT 7")

    assert await work() == 7
    assert len(set(tries)) == 3


async def test_work_that_fails_by_itself_is_not_tried_again(pool):
    tries = []

    @retryable(pause_seconds=0)
    async def work():
        tries.append(1)
        await pool.execute("SELECT 1/0")

    with pytest.raises(Exception, match="division by zero"):
        await work()
    assert len(tries) == 1
