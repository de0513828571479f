"""Notices which instances have died, by this process's own clock. Pure.

The clocks of others, and the database's, have no part in it: they may step.
"""

from collections.abc import Sequence
from uuid import UUID

from router_svc.limits.ports import Sign, Silence


class Deaths:
    """What is known of the signs of life of others."""

    def __init__(self) -> None:
        # By instance: its last sign of life, and when that was first seen.
        self._seen: dict[UUID, tuple[Sign, float]] = {}

    def see(self, signs: Sequence[Sign], now: float) -> None:
        """Takes the last signs of life of all others.

        Args:
            signs: All there are.
            now: Not earlier than they were read.
        """
        before, self._seen = self._seen, {}
        for sign in signs:
            known = before.get(sign.session_id)
            is_new = known is None or known[0].beat != sign.beat
            self._seen[sign.session_id] = (sign, now if is_new or known is None else known[1])

    def silences(self, now: float) -> list[Silence]:
        """Returns who has been silent for so long that some of what it held is free."""
        return [
            Silence(sign.session_id, sign.beat, now - since)
            for sign, since in self._seen.values()
            if now - since >= sign.keeps_seconds
        ]
