"""What an attempt decides before, or instead of, running its kind. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from executor_svc.engine.outcomes import Failed, Outcome, Skipped, Succeeded
from executor_svc.engine.outputs import MAX_COLLECTED_OUTPUTS, encode_items
from executor_svc.engine.ports import Want
from executor_svc.engine.records import Attempt, Failure, Phase, StepState
from executor_svc.engine.scope import Memo
from executor_svc.graphs.graph import JoinMode, Limit, Step
from executor_svc.steps.kind import StepError
from stepwire.errors import Reason

MAX_KEY_CHARACTERS = 200


class Limits(Protocol):
    """What `begin` must know of the worker's limits."""

    @property
    def max_output_bytes(self) -> int:
        """Largest output of a step."""

    @property
    def max_items(self) -> int:
        """Most items of a for_each step."""

    @property
    def max_losses(self) -> int:
        """How often a step may be lost with its worker."""


def begin(
    step: Step, attempt: Attempt, scope: Mapping[str, Any], *, limits: Limits
) -> Outcome | None:
    """Decide an attempt that does not come to run its kind; None for one that does.

    Raises:
        EvaluationError: `when` or `for_each` fails on what it sees.
        StepError: one of them gives what it must not.
    """
    over = _over_already(step, attempt, limits)
    if over is not None or attempt.phase is not Phase.NEW or attempt.item is not None:
        return over
    if step.when is not None and not _truth(step.when.evaluate(scope)):
        return Skipped()
    if step.for_each is not None:
        return encode_items(
            step.for_each.evaluate(scope),
            max_items=limits.max_items,
            limit_bytes=limits.max_output_bytes,
        )
    return None


def _over_already(step: Step, attempt: Attempt, limits: Limits) -> Outcome | None:
    """Decide an attempt by what is recorded of its step."""
    if attempt.losses > limits.max_losses:
        return _lost(attempt.losses)
    if attempt.phase is Phase.EXPIRED or (
        attempt.expires_at is not None and attempt.expires_at <= datetime.now(UTC)
    ):
        return expired(step)
    if attempt.phase is Phase.UNSATISFIED and step.join.mode is JoinMode.ALL:
        return Skipped()
    if attempt.phase is Phase.CAME and attempt.items is not None:
        return Succeeded(None) if _is_whole(step, attempt) else None
    return None


def may_decide_now(step: Step, attempt: Attempt, memo: Memo, *, instant: bool) -> bool:
    """Whether an attempt is over without I/O, given the outputs that are at hand."""
    if step.reads_states or step.limit is not None:
        return False
    if attempt.phase is Phase.UNSATISFIED:
        return step.join.mode is JoinMode.ALL
    if attempt.items is not None:
        return _is_whole(step, attempt)
    expands = step.for_each is not None and attempt.item is None
    if not (instant or expands):
        return False
    names = step.reads_when | (step.reads_items if expands else step.reads_run)
    return all(attempt.sibling(name) in memo for name in names)


def _is_whole(step: Step, attempt: Attempt) -> bool:
    """Whether nothing of a step's items must be known when all that are needed have ended."""
    if attempt.added_graph is not None or step.items_join.mode is JoinMode.AT_LEAST:
        return False
    return attempt.items is not None and attempt.items <= MAX_COLLECTED_OUTPUTS


def unsatisfied(step: Step, states: Mapping[str, str]) -> Outcome:
    """Decide a step whose join cannot be satisfied."""
    failed = [name for name, state in states.items() if state == StepState.FAILED]
    if not failed:
        return Skipped()
    succeeded = sum(state == StepState.SUCCEEDED for state in states.values())
    return _too_few(step.join.needs(len(states)), succeeded, ", ".join(failed))


def gathered(step: Step, items: Sequence[StepState]) -> Outcome:
    """Decide a for_each step of which some items must have succeeded."""
    succeeded = sum(state is StepState.SUCCEEDED for state in items)
    failed = sum(state is StepState.FAILED for state in items)
    needed = step.items_join.needs(len(items))
    if succeeded >= needed:
        return Succeeded(None)
    return _too_few(needed, succeeded, f"{failed} items")


def collected(size_bytes: int, *, limit_bytes: int) -> Outcome:
    """Decide a for_each step whose items have given so much; `limit_bytes` is for each output."""
    most = MAX_COLLECTED_OUTPUTS * limit_bytes
    if size_bytes <= most:
        return Succeeded(None)
    return Failed(
        Failure(
            Reason.OUTPUT_TOO_LARGE,
            f"the {size_bytes} bytes that the items gave are more than {most}",
            {"size_bytes": str(size_bytes), "limit_bytes": str(most)},
        ),
        retryable=False,
    )


def expired(step: Step) -> Failed:
    """Decide a step whose schedule_to_close is over."""
    seconds = 0.0 if step.lifetime is None else step.lifetime.total_seconds()
    return Failed(
        Failure(
            Reason.STEP_TIMED_OUT,
            f"the step did not end within its schedule_to_close of {seconds:g} s",
            {"schedule_to_close_seconds": f"{seconds:g}"},
        ),
        retryable=False,
    )


def want_of(limit: Limit, attempt: Attempt, scope: Mapping[str, Any]) -> Want:
    """Return the place that an attempt needs.

    Raises:
        EvaluationError: the key's expression fails on what it sees.
        StepError: the key is not a text of a proper length.
    """
    return Want(
        attempt=attempt,
        key=check_key(limit.key.evaluate(scope), field="limit.key"),
        max_running=limit.max_running,
        max_starts=limit.max_starts,
        period=limit.period,
    )


def check_key(key: Any, *, field: str) -> str:
    """Return a key if it is one.

    Raises:
        StepError: FIELD_INVALID, naming `field`.
    """
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY_CHARACTERS and key.isprintable():
        return key
    raise StepError(
        f"{field}: must give a printable text of 1 to {MAX_KEY_CHARACTERS} characters",
        reason=Reason.FIELD_INVALID,
        metadata={"field": field},
    )


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise StepError(
        f"when: must give true or false, not {type(value).__name__}",
        reason=Reason.FIELD_INVALID,
        metadata={"field": "when"},
    )


def _lost(losses: int) -> Failed:
    message = f"the workers that ran the step died {losses} times"
    return Failed(Failure(Reason.STEP_WORKER_LOST, message), retryable=False)


def _too_few(needed: int, succeeded: int, failed: str) -> Failed:
    return Failed(
        Failure(
            Reason.JOIN_UNSATISFIED,
            f"{needed} had to succeed, and {succeeded} did; failed: {failed}",
            {"needed": str(needed), "succeeded": str(succeeded)},
        ),
        retryable=False,
    )
