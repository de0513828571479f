"""What each class of failure leads to. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from router_svc.generate.failures import FailureKind


class Onward(Enum):
    """Which models may be tried after a failure."""

    ANY = "any"
    """The others of its tier, then those of the other tiers."""
    WIDER = "wider"
    """Likewise, but none with a smaller context window; one of the same may count otherwise."""
    ELSEWHERE = "elsewhere"
    """Likewise, but only those of other providers: what one filters, it filters always."""
    CHEAPER = "cheaper"
    """Likewise, but only those that cost less."""
    NONE = "none"
    """None: the request is bad for all of them."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What a class of failure leads to.

    Attributes:
        again: How often the same model is tried again: first, where the wait is short,
            otherwise when no other is left.
        onward: Which other models may be tried.
    """

    again: int
    onward: Onward


CHAINS: Mapping[FailureKind, Chain] = {
    FailureKind.RATE_LIMITED: Chain(again=2, onward=Onward.ANY),
    # Another key may have credit; the same one has none for hours.
    FailureKind.NO_CREDIT: Chain(again=1, onward=Onward.ANY),
    FailureKind.MISCONFIGURED: Chain(again=1, onward=Onward.ANY),
    FailureKind.CONTEXT_TOO_LONG: Chain(again=0, onward=Onward.WIDER),
    FailureKind.CONTENT_FILTERED: Chain(again=0, onward=Onward.ELSEWHERE),
    FailureKind.SERVER: Chain(again=1, onward=Onward.ANY),
    FailureKind.NETWORK: Chain(again=1, onward=Onward.ANY),
    # It has had its time; whoever waits has less of it now.
    FailureKind.TIMEOUT: Chain(again=0, onward=Onward.ANY),
    # Paid for, most likely: not more than once again.
    FailureKind.NONSENSE: Chain(again=1, onward=Onward.ANY),
    # Once more, with what was wrong.
    FailureKind.OFF_SCHEMA: Chain(again=1, onward=Onward.ANY),
    FailureKind.UNFIT: Chain(again=0, onward=Onward.ANY),
    FailureKind.BAD_REQUEST: Chain(again=0, onward=Onward.NONE),
    FailureKind.OVER_BUDGET: Chain(again=0, onward=Onward.CHEAPER),
}

# Failures of one endpoint that another endpoint of the same model need not share.
OF_THE_ENDPOINT = frozenset(
    {
        FailureKind.RATE_LIMITED,
        FailureKind.NO_CREDIT,
        FailureKind.MISCONFIGURED,
        FailureKind.SERVER,
        FailureKind.NETWORK,
    }
)
# Of these the same endpoint is not asked again within one call.
LASTING = frozenset({FailureKind.NO_CREDIT, FailureKind.MISCONFIGURED})
