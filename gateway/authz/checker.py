"""Whether a call may pass."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from gateway.keys.known import Known, KnownKeys
from gateway.keys.records import Key
from gateway.keys.rules import fault_of
from gateway.keys.uses import Uses
from gateway.public import Scope
from stepwire.api_keys import KeyHash, read_key
from stepwire.errors import Reason, StepwireError

# A secret that does not fit what is known may be newer than that; so the record is asked
# again, but not for each guess.
DOUBT_SECONDS: Final = 1.0

Verdict = Key | Reason
"""The key with which a call passes, or why it is refused."""


class Checker:
    """Decides on calls.

    Args:
        known: Knows keys.
        uses: Told of each call that passes.
        now: The time.
    """

    def __init__(
        self,
        known: KnownKeys,
        uses: Uses,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._known = known
        self._uses = uses
        self._now = now

    def at_once(self, text: str | None, scope: Scope | None) -> Verdict | None:
        """Returns what becomes of a call; None if `check` must ask the record first.

        Args:
            text: The key that it brings; None if it brings none.
            scope: What it needs; None if nobody has said, so that no key has it.
        """
        if not text:
            return Reason.KEY_MISSING
        presented = read_key(text)
        if presented is None:
            return Reason.KEY_INVALID
        known = self._known.recall(presented.key_id)
        if known is None or self._doubts(known, presented):
            return None
        return self._judge(known.key, presented, scope)

    async def check(self, text: str, scope: Scope | None) -> Verdict:
        """Returns what becomes of a call, by what the record says now."""
        presented = read_key(text)
        if presented is None:
            return Reason.KEY_INVALID
        try:
            known = await self._known.look_up(presented.key_id)
        except StepwireError:
            return Reason.DEPENDENCY_UNAVAILABLE
        return self._judge(known.key, presented, scope)

    def _doubts(self, known: Known, presented: KeyHash) -> bool:
        if known.key is None or self._known.age(known) < DOUBT_SECONDS:
            return False
        return fault_of(known.key, presented, self._now()) is not None

    def _judge(self, key: Key | None, presented: KeyHash, scope: Scope | None) -> Verdict:
        now = self._now()
        fault = fault_of(key, presented, now)
        if fault is not None:
            return fault
        assert key is not None
        if scope not in key.scopes:
            return Reason.SCOPE_MISSING
        self._uses.note(key.key_id, now)
        return key


def key_of(authorization: str, api_key: str) -> str | None:
    """Returns the key that a call's headers bring; None if they bring none.

    `x-api-key` goes first, since clients of other APIs always send an `authorization`.
    """
    if api_key:
        return api_key
    scheme, _, credentials = authorization.partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None
