"""What is believed of a key, and for how long, by a clock of the test's own."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.authz.checker import DOUBT_SECONDS, Checker, key_of
from gateway.keys.known import (
    AWAY_SECONDS,
    REFRESH_AT,
    UNKNOWN_BYTES,
    Freshness,
    KnownKeys,
)
from gateway.keys.records import Key
from gateway.keys.uses import Uses
from gateway.public import Scope
from stepwire.api_keys import digest_of, key_text, new_key_id, new_secret
from stepwire.errors import Reason
from stepwire.lru import ENTRY_BYTES
from stepwire.testing.poll import eventually
from tests.unit.gateway.test_gateway_key_rules import KEY

CACHE, GRACE = 5.0, 60.0
SECRET = new_secret()
TEXT = key_text(KEY.key_id, SECRET)


class Record:
    """A record that may be away, and counts what it is asked."""

    def __init__(self) -> None:
        self.keys = {KEY.key_id: replace(KEY, digest=digest_of(SECRET))}
        self.asked: list[str] = []
        self.was_asked = asyncio.Event()
        self.away = False
        self.touched: list[Mapping[str, datetime]] = []

    async def find(self, key_ids: Sequence[str]) -> Sequence[Key | None]:
        self.asked += key_ids
        self.was_asked.set()
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionRefusedError
        return [self.keys.get(key_id) for key_id in key_ids]

    async def touch(self, used: Mapping[str, datetime]) -> None:
        self.touched.append(used)


class House:
    def __init__(self) -> None:
        self.record: Any = Record()
        self.now = 100.0
        freshness = Freshness(cache_seconds=CACHE, grace_seconds=GRACE, lookup_seconds=1)
        self.known = KnownKeys(self.record, freshness, clock=lambda: self.now)
        self.uses = Uses(self.record)
        self.checker = Checker(self.known, self.uses)

    async def verdict(self, text: str = TEXT, scope: Scope | None = Scope.READ) -> Key | Reason:
        found = self.checker.at_once(text, scope)
        return await self.checker.check(text, scope) if found is None else found


@pytest.fixture
def house() -> House:
    return House()


async def test_a_key_is_looked_up_once_in_a_time(house: House) -> None:
    for _ in range(3):
        assert await house.verdict() == house.record.keys[KEY.key_id]
    house.now += CACHE * REFRESH_AT - 0.01
    assert isinstance(house.checker.at_once(TEXT, Scope.READ), Key)
    await settled(house)
    assert len(house.record.asked) == 1
    house.now += CACHE
    assert house.checker.at_once(TEXT, Scope.READ) is None
    await house.verdict()
    assert len(house.record.asked) == 2


async def test_calls_of_a_key_in_use_wait_for_the_record_once(house: House) -> None:
    await house.verdict()
    for lookups in range(2, 12):
        house.now += CACHE * REFRESH_AT
        for _ in range(3):
            assert isinstance(house.checker.at_once(TEXT, Scope.READ), Key)
        await settled(house)
        assert len(house.record.asked) == lookups
    # Where the record is away, that shows with the first who must wait for it.
    house.record.away = True
    house.now += CACHE * REFRESH_AT
    assert isinstance(house.checker.at_once(TEXT, Scope.READ), Key)
    await settled(house)
    house.now += CACHE * REFRESH_AT
    assert house.checker.at_once(TEXT, Scope.READ) is None
    assert isinstance(await house.verdict(), Key)


async def settled(house: House) -> None:
    """Let the lookups under way end."""

    def no_more() -> bool:
        return not house.known._refreshing

    await eventually(no_more)


async def test_a_revocation_is_seen_in_that_time_and_at_once_where_it_was_made(
    house: House,
) -> None:
    await house.verdict()
    good = house.record.keys[KEY.key_id]
    house.record.keys[KEY.key_id] = replace(good, revoked_at=KEY.created_at)
    assert isinstance(await house.verdict(), Key)
    house.now += CACHE
    assert await house.verdict() is Reason.KEY_REVOKED
    house.record.keys[KEY.key_id] = good
    house.known.forget(KEY.key_id)
    assert isinstance(await house.verdict(), Key)


async def test_an_answer_that_a_change_has_overtaken_is_not_kept(house: House) -> None:
    check = asyncio.create_task(house.verdict())
    await house.record.was_asked.wait()
    house.known.forget(KEY.key_id)
    await check
    assert house.known.recall(KEY.key_id) is None


async def test_while_the_record_is_away_known_keys_go_on_for_a_time(house: House) -> None:
    await house.verdict()
    house.record.away = True
    house.now += GRACE - 0.01
    assert isinstance(await house.verdict(), Key)
    unknown = key_text(new_key_id(), new_secret())
    assert await house.verdict(unknown) is Reason.DEPENDENCY_UNAVAILABLE
    house.now += 0.01
    assert await house.verdict() is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_record_that_is_away_is_not_asked_by_each_call(house: House) -> None:
    house.record.away = True
    for _ in range(5):
        assert await house.verdict() is Reason.DEPENDENCY_UNAVAILABLE
    assert len(house.record.asked) == 1
    house.record.away = False
    house.now += AWAY_SECONDS
    assert isinstance(await house.verdict(), Key)


async def test_a_record_that_hangs_counts_as_away(house: House) -> None:
    async def hang(key_ids: Sequence[str]) -> Sequence[Key | None]:
        await asyncio.get_running_loop().create_future()
        return []

    house.record.find = hang
    house.known._freshness = replace(house.known._freshness, lookup_seconds=0.001)
    assert await house.verdict() is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_secret_that_does_not_fit_is_asked_about_but_not_each_time(house: House) -> None:
    await house.verdict()
    wrong = key_text(KEY.key_id, new_secret())
    for _ in range(3):
        assert await house.verdict(wrong) is Reason.KEY_INVALID
    assert len(house.record.asked) == 1
    # It was rotated elsewhere.
    secret = new_secret()
    house.record.keys[KEY.key_id] = replace(house.record.keys[KEY.key_id], digest=digest_of(secret))
    house.now += DOUBT_SECONDS
    assert isinstance(await house.verdict(key_text(KEY.key_id, secret)), Key)


async def test_made_up_ids_take_bounded_memory_and_push_no_key_out(house: House) -> None:
    await house.verdict()
    ids = [new_key_id() for _ in range(2 * UNKNOWN_BYTES // ENTRY_BYTES)]
    for key_id in ids:
        house.known._unknown.put(key_id, house.known.recall(KEY.key_id), size_bytes=64)
    assert house.known._unknown.size_bytes <= UNKNOWN_BYTES
    assert house.known.recall(KEY.key_id) is not None
    stranger = key_text(new_key_id(), new_secret())
    for _ in range(2):
        assert await house.verdict(stranger) is Reason.KEY_INVALID
    assert len(house.record.asked) == 2


@pytest.mark.parametrize("scope", [Scope.WRITE, Scope.ADMIN, None])
async def test_other_scopes(house: House, scope: Scope | None) -> None:
    assert await house.verdict(scope=scope) is Reason.SCOPE_MISSING
    await house.uses.flush()
    assert house.record.touched == []


async def test_uses_are_written_down_together(house: House) -> None:
    for _ in range(3):
        await house.verdict()
    await house.uses.flush()
    await house.uses.flush()
    ((key_id, used_at),) = house.record.touched[0].items()
    assert (key_id, len(house.record.touched)) == (KEY.key_id, 1)
    assert used_at <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("authorization", "api_key", "key"),
    [
        ("", "", None),
        ("Bearer abc", "", "abc"),
        ("bearer  abc ", "", "abc"),
        ("Bearer", "", ""),
        ("Basic abc", "", None),
        ("Bearer sk-other", "abc", "abc"),
    ],
)
def test_where_keys_are_found(authorization: str, api_key: str, key: str | None) -> None:
    assert key_of(authorization, api_key) == key
