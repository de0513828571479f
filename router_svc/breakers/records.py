"""What a breaker is: its name, its state, why it is open."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from router_svc.generate.failures import FailureKind


class Scope(StrEnum):
    """What a breaker stands before."""

    PROVIDER = "provider"
    """An address: open while it cannot be reached."""
    KEY = "key"
    """A key at an address: open while it has no credit or no rights."""
    MODEL = "model"
    """A model at an endpoint: open while it fails or is limited."""


@dataclass(frozen=True, slots=True, order=True)
class BreakerKey:
    """Names a breaker."""

    scope: Scope
    name: str

    def __str__(self) -> str:
        return f"{self.scope.value}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> "BreakerKey | None":
        """Returns the key that is written as `text`; None when it is none."""
        scope, _, name = text.partition(":")
        return cls(Scope(scope), name) if scope in set(Scope) and name else None


class BreakerState(StrEnum):
    """Whether calls are let through."""

    CLOSED = "closed"
    """All."""
    OPEN = "open"
    """None."""
    HALF_OPEN = "half_open"
    """One at a time, to find out whether all is well again."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a breaker is open."""

    kind: FailureKind
    message: str
    status: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """That a breaker is open.

    Attributes:
        until: When probes are let through, in seconds of the clock in use; None for not
            before somebody resets it.
        cause: Why.
        openings: How often in a row it was opened; each doubles the rest.
        forced: Whether somebody opened it by hand.
    """

    until: float | None
    cause: Cause
    openings: int = 1
    forced: bool = False


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When breakers open, and for how long.

    Attributes:
        failures: In a row, with no success between; one is chance, so many are not.
        window: Results that the share of failures is taken of.
        share: Of failures among them, from which on it opens.
        first_rest: How long it is open the first time; doubled each time in a row.
        longest_rest: The most that it is open for a failure that may pass.
        credit_rest: How long without credit; doubled, too, up to `longest_credit_rest`.
        longest_credit_rest: The most of that.
    """

    failures: int = 3
    window: int = 20
    share: float = 0.5
    first_rest: timedelta = timedelta(seconds=5)
    longest_rest: timedelta = timedelta(minutes=2)
    credit_rest: timedelta = timedelta(minutes=10)
    longest_credit_rest: timedelta = timedelta(hours=2)
