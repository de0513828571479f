"""What an endpoint remembers: requests seen, tokens sold, and the limits they meet."""

import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

from stepwire.testing.fleet.plan import EndpointPlan, Fault, FaultKind

# Requests whose bodies are kept for tests to look at.
KEPT_REQUESTS = 1_000
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that came, as a test may look at it."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass(slots=True)
class Totals:
    """What one endpoint has done since it started or was reset."""

    requests: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    abandoned: int = 0
    """Requests whose client went away before the end of the answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Account:
    """The memory of one endpoint."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.outcomes: Counter[str] = Counter()
        self.seen: deque[SeenRequest] = deque(maxlen=KEPT_REQUESTS)
        self._started = time.monotonic()
        self._times: deque[float] = deque()

    def limit(self, plan: EndpointPlan) -> Fault | None:
        """Returns the fault that limits, credit and outages mean for a request now."""
        now = time.monotonic()
        for outage in plan.outages:
            if outage.from_seconds <= now - self._started < outage.to_seconds:
                return outage.fault
        used = self.totals.prompt_tokens + self.totals.completion_tokens
        if plan.credit_tokens is not None and used >= plan.credit_tokens:
            return Fault(kind=FaultKind.NO_CREDIT)
        return self._rate(plan.requests_per_minute, now)

    def _rate(self, per_minute: int | None, now: float) -> Fault | None:
        if per_minute is None:
            return None
        while self._times and self._times[0] <= now - _MINUTE:
            self._times.popleft()
        if len(self._times) >= per_minute:
            wait = self._times[0] + _MINUTE - now
            return Fault(kind=FaultKind.RATE_LIMITED, retry_after_seconds=round(wait, 3))
        self._times.append(now)
        return None

    def sold(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Counts the tokens of an answer."""
        self.totals.prompt_tokens += prompt_tokens
        self.totals.completion_tokens += completion_tokens

    def as_json(self) -> dict[str, Any]:
        """Returns the totals and what became of the requests."""
        return {**asdict(self.totals), "outcomes": dict(self.outcomes)}
