"""Whatever happens around subtasks, in any order: none goes on alone, and nobody waits in vain."""

import pytest

from tests.integration.executor_svc.subtask_walk import ALONE, IN_VAIN, OPEN, Walk
from tests.integration.executor_svc.transition_record import Record, transition_record

__all__ = ["transition_record"]

DEEDS = 400


@pytest.mark.parametrize("seed", range(4))
async def test_no_subtask_is_left_alone_whatever_happens(record: Record, seed: int) -> None:
    walk = Walk(record, seed)
    await walk.go(DEEDS)
    assert not await record.pool.fetch(ALONE)
    assert not await record.pool.fetch(IN_VAIN)
    await walk.finish()
    assert not await record.pool.fetch(OPEN)
