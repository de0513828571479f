"""What a Generate is about, and what its tries are made with."""

from collections.abc import Callable
from dataclasses import dataclass

from router_svc.decide.records import Decision
from router_svc.generate.ports import Budgets, CountTokens, Limits, Targets
from router_svc.generate.records import Caller
from router_svc.generate.telemetry import CallTelemetry
from router_svc.requests.records import Request


class OutOfTimeError(Exception):
    """The call's deadline has passed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one Generate is about.

    Attributes:
        request: The request.
        caller: For whom.
        decision: Which models may answer.
        deadline: When the caller stops waiting, on the router's clock; None for never.
    """

    request: Request
    caller: Caller
    decision: Decision
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Means:
    """What tries are made with.

    Attributes:
        targets: Choose the place, and let through or not.
        budgets: Hold money.
        limits: Keep within rates.
        telemetry: Measures.
        count: Estimates the tokens of a text, for a model's tokenizer.
        clock: Monotonic seconds.
    """

    targets: Targets
    budgets: Budgets
    limits: Limits
    telemetry: CallTelemetry
    count: CountTokens
    clock: Callable[[], float]
