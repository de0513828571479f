import asyncio
import uuid

from stepwire.call import CallInfo, call_context, current_call, new_request_id


def test_outside_a_call_there_is_a_default_tenant_and_nothing_else():
    assert current_call() == CallInfo(tenant_id="default", request_id="", deadline=None)


def test_a_context_is_set_for_the_block_and_restored():
    with call_context(tenant_id="acme", request_id="r1", deadline=5.0) as outer:
        assert current_call() is outer
        assert outer == CallInfo("acme", "r1", 5.0)
        with call_context(tenant_id="other"):
            assert current_call().tenant_id == "other"
        assert current_call() is outer
    assert current_call() == CallInfo()


def test_a_context_without_a_request_id_gets_a_new_one():
    with call_context(tenant_id="a") as first, call_context(tenant_id="a") as second:
        assert first.request_id
        assert first.request_id != second.request_id
    assert new_request_id() != new_request_id()


def test_a_new_request_id_is_a_random_uuid():
    for made in (new_request_id() for _ in range(64)):
        read = uuid.UUID(made)
        assert (str(read), read.version, read.variant) == (made, 4, uuid.RFC_4122)


async def test_concurrent_tasks_do_not_see_each_others_context():
    async def tenant(name):
        with call_context(tenant_id=name):
            await asyncio.sleep(0)
            return current_call().tenant_id

    assert await asyncio.gather(*(tenant(str(n)) for n in range(20))) == [str(n) for n in range(20)]
