"""Which errors of Postgres are worth another try, and what a caller is told in the end."""

import asyncpg
import pytest

from stepwire.db import retryable
from stepwire.errors import Reason, StepwireError

# What passes by itself, or with room and memory that come back.
PASSING = [
    asyncpg.DiskFullError("could not extend file"),
    asyncpg.OutOfMemoryError("out of memory"),
    asyncpg.TooManyConnectionsError("sorry, too many clients already"),
    asyncpg.AdminShutdownError("terminating connection"),
    asyncpg.DeadlockDetectedError("deadlock detected"),
    ConnectionResetError("reset"),
]


def failing(error, times):
    """A unit of work that raises so often, and counts how often it was run."""
    runs = []

    @retryable(pause_seconds=0)
    async def work():
        runs.append(None)
        if len(runs) <= times:
            raise error
        return "done"

    return work, runs


@pytest.mark.parametrize("error", PASSING, ids=repr)
async def test_what_passes_is_tried_again(error):
    work, runs = failing(error, 1)
    assert await work() == "done"
    assert len(runs) == 2


@pytest.mark.parametrize("error", PASSING, ids=repr)
async def test_what_does_not_pass_is_an_unavailable_dependency(error):
    work, runs = failing(error, 99)
    with pytest.raises(StepwireError) as caught:
        await work()
    assert caught.value.reason == Reason.DEPENDENCY_UNAVAILABLE
    assert caught.value.metadata == {"dependency": "postgres"}
    assert len(runs) == 3


async def test_a_statement_that_took_too_long_is_not_made_again():
    work, runs = failing(TimeoutError(), 1)
    with pytest.raises(StepwireError) as caught:
        await work()
    assert caught.value.reason == Reason.DEPENDENCY_UNAVAILABLE
    assert len(runs) == 1


@pytest.mark.parametrize("error", [asyncpg.UniqueViolationError("twice"), asyncpg.DataError("no")])
async def test_faults_of_the_caller_are_raised_as_they_are(error):
    work, runs = failing(error, 1)
    with pytest.raises(type(error)):
        await work()
    assert len(runs) == 1
