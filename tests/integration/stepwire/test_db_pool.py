"""Pools against a real Postgres."""

import asyncio

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stepwire.db import open_pool, pool_metrics
from stepwire.errors import StepwireError
from stepwire.stack.ports import free_port


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, application_name="test", max_size=1) as opened:
        yield opened


async def test_metrics_show_how_many_connections_are_lent(database_url, monkeypatch):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(pool_metrics, "meter", lambda: provider.get_meter("test"))
    pool_metrics._gauges.cache_clear()
    async with open_pool(
        database_url, application_name="test", max_size=3, metrics_name="mine"
    ) as opened:
        async with opened.acquire():
            assert numbers(reader) == {
                ("db.client.connection.count", "mine", "used"): 1,
                ("db.client.connection.count", "mine", "idle"): 0,
                ("db.client.connection.max", "mine"): 3,
            }
        assert numbers(reader)["db.client.connection.count", "mine", "idle"] == 1
        assert numbers(reader)["db.client.connection.count", "mine", "used"] == 0
    assert numbers(reader) == {}
    provider.shutdown()
    pool_metrics._gauges.cache_clear()


def numbers(reader):
    data = reader.get_metrics_data()
    return {
        (metric.name, *point.attributes.values()): point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


async def test_giving_a_connection_back_costs_no_statement(pool):
    """A setting of the session is still there: nothing was sent that would have reset it."""
    await pool.execute("SELECT set_config('stepwire.test', 'kept', false)")
    assert await pool.fetchval("SELECT current_setting('stepwire.test', true)") == "kept"


async def test_a_transaction_that_was_cut_off_is_over_for_the_next_user(pool):
    await pool.execute("CREATE TABLE numbers (number integer)")

    async def hang():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO numbers VALUES (1)")
            await asyncio.Event().wait()

    hanging = asyncio.create_task(hang())
    await asyncio.wait([hanging], timeout=0.1)
    hanging.cancel()
    await asyncio.wait([hanging])
    assert await pool.fetchval("SELECT count(*) FROM numbers") == 0


async def test_a_statement_that_was_cut_off_leaves_a_connection_that_works(pool):
    running = asyncio.create_task(pool.execute("SELECT pg_sleep(3600)"))
    await asyncio.wait([running], timeout=0.1)
    running.cancel()
    await asyncio.wait([running])
    assert await pool.fetchval("SELECT 1") == 1


async def test_a_server_that_is_away_is_told_by_its_address_without_the_password():
    url = f"postgresql://stepwire:s3cret@127.0.0.1:{free_port()}/stepwire"
    with pytest.raises(StepwireError) as caught:
        async with open_pool(url, application_name="test"):
            pass
    server = url.partition("@")[2].partition("/")[0]
    assert caught.value.message == f"Postgres does not answer at {server}: ConnectionRefusedError"
    assert "s3cret" not in str(caught.value.metadata)
