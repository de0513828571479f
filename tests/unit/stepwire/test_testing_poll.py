"""The helper that waits for something to become true."""

import pytest

from stepwire.testing.poll import eventually, eventually_blocking


async def test_it_returns_the_first_true_value() -> None:
    values = iter([0, "", None, "there"])
    assert await eventually(lambda: next(values)) == "there"
    values = iter([False, 3])
    assert eventually_blocking(lambda: next(values)) == 3


async def test_an_async_predicate_is_awaited() -> None:
    values = iter([0, 7])

    async def look() -> int:
        return next(values)

    assert await eventually(look) == 7


async def test_what_stays_false_is_told_with_its_last_value() -> None:
    with pytest.raises(AssertionError, match=r"still 0 after 0\.02 s"):
        await eventually(lambda: 0, 0.02)
    with pytest.raises(AssertionError, match="still None"):
        eventually_blocking(lambda: None, 0.02)


async def test_a_failing_assertion_counts_as_not_yet_and_is_raised_at_the_end() -> None:
    seen = []

    def look() -> bool:
        seen.append(1)
        assert len(seen) > 2, "too few"
        return True

    assert await eventually(look)
    seen.clear()

    def never() -> bool:
        raise AssertionError("too few")

    with pytest.raises(AssertionError, match="too few"):
        await eventually(never, 0.02)


async def test_another_exception_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        await eventually(lambda: 1 / 0)
