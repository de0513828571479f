"""What messages between the executor's processes hold.

A wakeup is a bundle of [task_id, step_id, attempt]; an event message is a list of
[task_id, last_cursor, recorded time, events]. Pure.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import orjson

from executor_svc.engine.records import EventBatch, StepRef
from stepwire.ids import parse_uuid

MAX_ATTEMPT = 2**31 - 1
# How the events begin that end a task: TASK_SUCCEEDED, TASK_FAILED, TASK_CANCELLED.
ENDINGS = re.compile(r"\[[345],")
# What waits at one time goes in so many messages at most, until they are full: enough to
# share it out between workers, and few enough that their number does not grow with it.
SPREAD = 8

Bundle = list[tuple[str, str, int]]


def bundles(
    refs: Sequence[StepRef], *, max_bundle: int, spread: bool = True
) -> Iterator[tuple[str, Bundle]]:
    """Split steps into the contents of messages: (queue, bundle).

    A few steps travel alone, so that several workers can take them; a burst travels in
    bundles of at most `max_bundle`, so that it shares the cost of its messages. Without
    `spread`, all bundles are as full as can be: where one message follows another, these
    are shared out anyway.
    """
    by_queue: dict[str, Bundle] = defaultdict(list)
    for ref in refs:
        by_queue[ref.queue].append((str(ref.task_id), ref.step_id, ref.attempt))
    for queue, steps in by_queue.items():
        size = min(max_bundle, bundle_size(len(steps)) if spread else len(steps))
        for start in range(0, len(steps), size):
            yield queue, steps[start : start + size]


def bundle_size(steps: int) -> int:
    """Return how many of `steps` that are ready together share a message."""
    # The square root balances the number of messages against their size.
    return max(math.isqrt(steps), math.ceil(steps / SPREAD))


def read_bundle(bundle: object, *, queue: str) -> list[StepRef]:
    """Read the content of a message from `queue`.

    Raises:
        ValueError: it is not a bundle.
    """
    if not isinstance(bundle, list):
        raise ValueError(f"a bundle is a list, not {type(bundle).__name__}")  # noqa: TRY004 - one kind of fault
    return [_read_ref(entry, queue) for entry in bundle]


def _read_ref(entry: object, queue: str) -> StepRef:
    match entry:
        case [str(task_id), str(step_id), int(attempt)]:
            if 1 <= attempt <= MAX_ATTEMPT and step_id.isprintable():
                return StepRef(parse_uuid(task_id), step_id, attempt, queue)
    raise ValueError(f"{entry!r} does not name an attempt")


def ends_task(batch: EventBatch) -> bool:
    """Whether a task ends with these events; true for a few that only look like it."""
    return ENDINGS.search(batch.events) is not None


def encode_events(batches: Sequence[EventBatch]) -> bytes:
    """Return the body of an event message."""
    return orjson.dumps(
        [
            [str(batch.task_id), batch.last_cursor, batch.recorded_at.timestamp(), batch.events]
            for batch in batches
        ]
    )


def decode_events(body: bytes) -> Sequence[EventBatch]:
    """Read the body of an event message."""
    return [
        EventBatch(parse_uuid(task_id), cursor, datetime.fromtimestamp(recorded, UTC), events)
        for task_id, cursor, recorded, events in orjson.loads(body)
    ]
