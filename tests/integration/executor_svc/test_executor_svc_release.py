"""Which of the steps that are not published yet go first."""

import asyncio
from collections import Counter

from tests.integration.executor_svc.limit_record import REPUBLISH, limit_record

record = limit_record


async def waiting(record, tenant, count, *, priority=5, queue="default"):
    """Steps that are ready and not published, one per task."""
    await record.pool.execute(
        "INSERT INTO executor.steps (task_id, step_id, ordinal, state, tenant_id, queue, priority,"
        " ready_at) SELECT uuidv7(), 'a', 0, 'READY', $1, $2, $3, now()"
        " FROM generate_series(1, $4)",
        tenant,
        queue,
        priority,
        count,
    )


async def release(record, room, *, queue="default"):
    rows = await record.pool.fetch(
        "SELECT s.* FROM executor.release_v1($1, $2, $3) AS r"
        " JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id",
        REPUBLISH,
        queue,
        room,
    )
    return Counter((row["tenant_id"], row["priority"]) for row in rows)


async def test_the_only_step_of_a_tenant_goes_with_the_first(record):
    await waiting(record, "many", 1000)
    for room in (2, 5):
        await waiting(record, "one", 1)
        assert (await release(record, room))["one", 5] >= 1


async def test_a_tenant_alone_gets_all_the_room(record):
    await waiting(record, "a", 50)
    assert await release(record, 20) == {("a", 5): 20}
    assert await release(record, 100) == {("a", 5): 30}
    assert not await release(record, 100)


async def test_what_others_leave_goes_to_those_who_have_more(record):
    await waiting(record, "many", 500)
    for number in range(20):
        await waiting(record, f"t{number}", 1)
    given = await release(record, 300)
    assert given["many", 5] == 280


async def test_tenants_share_by_their_weights(record):
    await record.pool.execute("INSERT INTO executor.tenants VALUES ('heavy', 3)")
    await waiting(record, "heavy", 400)
    await waiting(record, "light", 400)
    given = await release(record, 200)
    assert abs(given["heavy", 5] - 150) <= 2


async def test_small_amounts_are_shared_fairly_too(record):
    """Room for one at a time: chance decides, and over many turns everyone has had some."""
    await record.pool.execute("INSERT INTO executor.tenants VALUES ('a', 4)")
    for tenant in "abcd":
        await waiting(record, tenant, 200)
    given = Counter()
    for _ in range(140):
        given += await release(record, 1)
    assert sum(given.values()) == 140
    assert given["a", 5] > max(given[tenant, 5] for tenant in "bcd")
    assert min(given[tenant, 5] for tenant in "bcd") >= 3


async def test_a_higher_priority_goes_first_whoever_waits(record):
    await waiting(record, "a", 100)
    await waiting(record, "b", 3, priority=9)
    await waiting(record, "b", 3, priority=1)
    assert await release(record, 4) == {("b", 1): 3, ("a", 5): 1}
    assert await release(record, 99) == {("a", 5): 99}
    assert await release(record, 99) == {("b", 9): 3}


async def test_a_paused_queue_keeps_its_steps(record):
    await waiting(record, "a", 5)
    await waiting(record, "a", 5, queue="gpu")
    await record.pool.execute(
        "INSERT INTO executor.queues (queue, paused, paused_at)"
        " VALUES ('gpu', true, now()), ('llm', true, now())"
    )
    assert not await release(record, 10, queue="gpu")
    # What becomes ready in a paused queue is not published either.
    paused = {"default": False, "gpu": True, "llm": True}
    assert await record.releases.unpublished_queues() == paused
    await record.pool.execute("UPDATE executor.queues SET paused = false, paused_at = NULL")
    assert await record.releases.unpublished_queues() == {"default": False, "gpu": False}
    assert await release(record, 10, queue="gpu") == {("a", 5): 5}


async def test_executors_that_release_at_once_do_not_take_the_same(record):
    await waiting(record, "a", 300)
    await waiting(record, "b", 300)
    given = await asyncio.gather(*(record.releases.release("default", room=100) for _ in range(5)))
    refs = [(ref.task_id, ref.step_id) for each in given for ref in each]
    assert len(refs) == len(set(refs))
    published = await record.pool.fetchval(
        "SELECT count(*) FROM executor.steps WHERE due_at IS NOT NULL"
    )
    assert published == len(refs) >= 100
