"""Which model is tried next in one call, and after which wait. Pure: it is told the time.

After a failure: the same model once more where its chain allows it and the wait is short;
then the others of its tier, then those of the other tiers, in the decision's order; at
last those that asked for a longer wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from router_svc.catalogue.kinds import Tier
from router_svc.catalogue.models import Model
from router_svc.decide.records import Candidate
from router_svc.generate.chains import CHAINS, LASTING, OF_THE_ENDPOINT, Onward
from router_svc.generate.records import FailedTry

FIRST_BACKOFF_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Bounds of the tries of one call.

    Attributes:
        max_attempts: Calls of providers, hedges included.
        patience_seconds: Longest wait for the same model while others could be tried.
        longest_wait_seconds: Longest wait when no other model is left.
    """

    max_attempts: int = 6
    patience_seconds: float = 0.5
    longest_wait_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class NextTry:
    """What to try next.

    Attributes:
        candidate: The model.
        wait_seconds: To be waited before.
        avoid: Its endpoints that failed in this call.
    """

    candidate: Candidate
    wait_seconds: float
    avoid: tuple[str, ...]


@dataclass(slots=True)
class _Course:
    """How one model fares in one call."""

    candidate: Candidate
    failures: int = 0
    out: bool = False
    ready_at: float = 0.0
    avoid: list[str] = field(default_factory=list)


class Route:
    """The tries of one call.

    Args:
        tries: The models that may answer, in the decision's order.
        rules: The bounds.
    """

    def __init__(self, tries: Sequence[Candidate], rules: RetryRules) -> None:
        self._rules = rules
        self._courses = {each.model.name: _Course(each) for each in tries}
        self._attempts = 0
        self._stopped = False
        self._last: _Course | None = None
        self._narrowest: int | None = None
        self._filtered: set[str] = set()
        self._dearest: int | None = None

    @property
    def attempts(self) -> int:
        """Calls of providers so far."""
        return self._attempts

    def called(self) -> None:
        """Counts a call of a provider."""
        self._attempts += 1

    @property
    def may_call(self) -> bool:
        """Whether another call of a provider is within the bounds."""
        return not self._stopped and self._attempts < self._rules.max_attempts

    def failed(self, tried: FailedTry, *, now: float) -> None:
        """Takes note of a try that brought no answer."""
        course = self._courses[tried.name]
        chain = CHAINS[tried.failure.kind]
        course.failures += 1
        self._last = course
        self._narrow(tried, chain.onward)
        if course.failures > chain.again:
            course.out = True
            return
        others = [
            each.name
            for each in course.candidate.model.endpoints
            if each.name != tried.endpoint and each.name not in course.avoid
        ]
        if tried.endpoint:
            course.avoid.append(tried.endpoint)
        if tried.failure.kind in LASTING:
            # Without an endpoint, all of them rest.
            course.out = not (tried.endpoint and others)
            return
        if others and tried.failure.called and tried.failure.kind in OF_THE_ENDPOINT:
            course.ready_at = now
            return
        asked = tried.failure.retry_after
        backoff = FIRST_BACKOFF_SECONDS * 2 ** (course.failures - 1)
        course.ready_at = now + (backoff if asked is None else max(0.0, asked.total_seconds()))

    def _narrow(self, tried: FailedTry, onward: Onward) -> None:
        model = tried.candidate.model
        if onward is Onward.NONE:
            self._stopped = True
        elif onward is Onward.WIDER:
            self._narrowest = max(self._narrowest or 0, model.context_window)
        elif onward is Onward.ELSEWHERE:
            self._filtered |= _homes(model)
        elif onward is Onward.CHEAPER:
            cost = tried.candidate.worst_cost_micro_usd
            self._dearest = cost if self._dearest is None else min(cost, self._dearest)

    def next(self, *, now: float) -> NextTry | None:
        """Returns what to try next; None when nothing is left within the bounds."""
        if not self.may_call:
            return None
        open_ = [each for each in self._courses.values() if self._is_open(each)]
        if not open_:
            return None
        last = self._last
        if last is not None and last in open_:
            wait = last.ready_at - now
            if wait <= self._rules.patience_seconds or len(open_) == 1:
                return self._after(last, wait)
        fresh = [each for each in open_ if not each.failures]
        if fresh:
            return self._after(self._nearest(fresh), 0.0)
        first = min(open_, key=lambda each: each.ready_at)
        return self._after(first, first.ready_at - now)

    def beside(self, candidate: Candidate) -> Candidate | None:
        """Returns the model to try beside `candidate` when that is slow: the next in order."""
        if not self.may_call:
            return None
        places = [each.candidate for each in self._courses.values() if self._is_open(each)]
        if len(candidate.model.endpoints) > 1:
            return candidate
        return next((each for each in places if each.model.name != candidate.model.name), None)

    def _is_open(self, course: _Course) -> bool:
        model = course.candidate.model
        if course.out:
            return False
        if self._narrowest is not None and model.context_window < self._narrowest:
            return False
        if self._dearest is not None and (course.candidate.worst_cost_micro_usd >= self._dearest):
            return False
        return not (self._filtered and _homes(model) & self._filtered)

    def _nearest(self, fresh: Sequence[_Course]) -> _Course:
        tier: Tier | None = None if self._last is None else self._last.candidate.model.tier
        same = [each for each in fresh if each.candidate.model.tier is tier]
        return (same or fresh)[0]

    def _after(self, course: _Course, wait: float) -> NextTry | None:
        if wait > self._rules.longest_wait_seconds:
            return None
        return NextTry(course.candidate, max(0.0, wait), tuple(course.avoid))


def _homes(model: Model) -> set[str]:
    """Returns where a model is at home: what one provider filters, it filters everywhere."""
    return {endpoint.base_url for endpoint in model.endpoints} or {"model_svc"}
