"""What metrics are told of the connections to Postgres."""

from stepwire.db import open_pool
from stepwire.db.pool_metrics import PoolUse
from vector_svc.store.codecs import set_codecs
from vector_svc.store.database import OWNER, Database


async def test_a_connection_is_in_use_while_it_is_lent_not_while_it_is_kept(
    service_url: str,
) -> None:
    async with open_pool(service_url, application_name="test", max_size=3, init=set_codecs) as pool:
        database = Database(pool, acquire_seconds=5, statement_seconds=5)
        async with database.connection("test", OWNER):
            assert database.use == PoolUse(used=1, idle=0, most=3)
        assert database.use == PoolUse(used=0, idle=1, most=3)
        await database.close()
