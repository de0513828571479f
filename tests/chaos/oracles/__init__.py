"""The promises as oracles: each reads a run's history and says what breaks its promise. Pure.

What an oracle trusts: the ledgers, which step functions write themselves, and the answers
that clients were given. Against these it holds the record and its events.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.chaos.history import History
from tests.chaos.oracles.acceptance import (
    p1_accepted_is_never_lost,
    p8_the_same_request_id_gives_the_same_task,
)
from tests.chaos.oracles.attempts import (
    a_blocked_loop_keeps_its_lease,
    p2_a_completed_step_never_runs_again,
    p3_one_recorded_result_per_step,
)
from tests.chaos.oracles.limits import p7_limits_hold
from tests.chaos.oracles.order import (
    p5_a_join_fires_exactly_once,
    p6_cancel_is_final,
    p9_order_without_gap,
)
from tests.chaos.oracles.outcomes import p4_nothing_is_stranded, what_failed_is_undone

Oracle = Callable[[History], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept."""

    oracle: str
    what: str


ORACLES: Mapping[str, Oracle] = {
    "P1": p1_accepted_is_never_lost,
    "P2": p2_a_completed_step_never_runs_again,
    "P3": p3_one_recorded_result_per_step,
    "P4": p4_nothing_is_stranded,
    "P5": p5_a_join_fires_exactly_once,
    "P6": p6_cancel_is_final,
    "P7": p7_limits_hold,
    "P8": p8_the_same_request_id_gives_the_same_task,
    "P9": p9_order_without_gap,
    "lease": a_blocked_loop_keeps_its_lease,
    "undo": what_failed_is_undone,
}


def judge(history: History) -> list[Violation]:
    """Ask all oracles."""
    return [Violation(name, what) for name, oracle in ORACLES.items() for what in oracle(history)]
