"""Creating, changing and triggering schedules: the verbs of their owner."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from executor_svc.schedules import rules
from executor_svc.schedules.firing import Firing
from executor_svc.schedules.ports import Busy, ScheduleStore, Starter
from executor_svc.schedules.records import (
    Answered,
    Config,
    Held,
    Outcome,
    OverlapPolicy,
    Request,
    Run,
    Schedule,
    with_runs,
)
from executor_svc.schedules.recovery import may_have_begun, recovered
from executor_svc.schedules.timing import Timing
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.errors import Reason, StepwireError, field_invalid

LEASE: Final = timedelta(seconds=10)
"""For how long a schedule is held by one who may have died."""
BUSY_PAUSE_SECONDS: Final = 0.02
PREVIEWED: Final = 5

R = TypeVar("R")
Edit = Callable[[Config], Config]


class Schedules:
    """The schedules of all tenants.

    Args:
        store: Keeps them.
        starter: Starts their tasks.
        firing: Carries out triggers.
        changed: Called after a change, since the next firing may be sooner by it.
        limit: Most schedules of one tenant.
        min_interval: Shortest time between two firings.
    """

    def __init__(
        self,
        store: ScheduleStore,
        starter: Starter,
        firing: Firing,
        *,
        changed: Callable[[], None],
        limit: int,
        min_interval: timedelta,
    ) -> None:
        self._store = store
        self._starter = starter
        self._firing = firing
        self._changed = changed
        self._limit = limit
        self._min_interval = min_interval
        self._triggers: set[asyncio.Task[Run]] = set()

    async def create(
        self, new: Schedule, request: Request | None, *, validate_only: bool = False
    ) -> Schedule:
        """Create a schedule.

        Raises:
            StepwireError: SCHEDULE_EXISTS, REQUEST_ID_REUSED, FIELD_INVALID, or what
                CreateTask says of its task.
        """
        if not validate_only and (known := await self._known(request)) is not None:
            return await self._current(new.tenant_id, known)
        rules.check_config(new.config, min_interval=self._min_interval)
        now = await self._store.now()
        await self._check_task(new, now, keep=not validate_only)
        _check_fires(new, now)
        timed = _timed(new, now)
        if validate_only:
            return timed
        added = await self._store.add(timed, request, limit=self._limit)
        self._changed()
        return await self._current(new.tenant_id, added)

    async def get(self, tenant_id: str, name: str) -> Schedule:
        """Return a schedule.

        Raises:
            StepwireError: SCHEDULE_NOT_FOUND; so do all that name one.
        """
        found = await self._store.find(tenant_id, name)
        if found is None:
            raise rules.not_found(name)
        return found

    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Schedule]:
        """Return a tenant's schedules behind a name, by name, without tasks and runs."""
        return await self._store.list(tenant_id, after=after, limit=limit)

    async def update(
        self, tenant_id: str, name: str, edit: Edit, *, etag: str, request: Request | None
    ) -> Schedule:
        """Change a schedule's configuration.

        Raises:
            StepwireError: SCHEDULE_CHANGED when its etag is another, REQUEST_ID_REUSED,
                FIELD_INVALID, or what CreateTask says of its new task.
        """
        if (known := await self._known(request)) is not None:
            return await self._current(tenant_id, known)
        old = await self.get(tenant_id, name)
        edited = replace(old, config=edit(old.config))
        if edited.config.task != old.config.task:
            await self._check_task(edited, await self._store.now(), keep=True)

        def change(schedule: Schedule, now: datetime) -> Schedule:
            _check_etag(schedule, etag)
            new = replace(schedule, config=edit(schedule.config))
            if new.config == schedule.config:
                return schedule
            rules.check_config(new.config, min_interval=self._min_interval)
            if new.config.overlap is not OverlapPolicy.BUFFER_ONE:
                new = _without_buffer(new, now)
            if _times(new) == _times(schedule):
                return new
            _check_fires(new, now)
            return _timed(new, now)

        return await self._change(tenant_id, name, change, request)

    async def delete(
        self, tenant_id: str, name: str, *, etag: str, request: Request | None
    ) -> None:
        """Delete a schedule.

        Raises:
            StepwireError: SCHEDULE_CHANGED when its etag is another, or REQUEST_ID_REUSED.
        """

        def check(schedule: Schedule) -> None:
            _check_etag(schedule, etag)

        await _when_free(lambda: self._store.delete(tenant_id, name, check, request))

    async def pause(
        self, tenant_id: str, name: str, *, note: str, request: Request | None
    ) -> Schedule:
        """Stop its firings; one that waits is dropped.

        Raises:
            StepwireError: REQUEST_ID_REUSED.
        """

        def change(schedule: Schedule, now: datetime) -> Schedule:
            new = replace(schedule, paused=True, note=note or schedule.note)
            new = _without_buffer(replace(new, next_at=None, due_at=None), now)
            return schedule if new == schedule else new

        return await self._change(tenant_id, name, change, request)

    async def resume(
        self, tenant_id: str, name: str, *, note: str, request: Request | None
    ) -> Schedule:
        """Let it fire again, from now on.

        Raises:
            StepwireError: REQUEST_ID_REUSED.
        """

        def change(schedule: Schedule, now: datetime) -> Schedule:
            if not schedule.paused:
                return schedule
            return _timed(replace(schedule, paused=False, note=note), now)

        return await self._change(tenant_id, name, change, request)

    async def trigger(
        self, tenant_id: str, name: str, *, overlap: OverlapPolicy | None, request: Request | None
    ) -> Run:
        """Fire once, now; return what came of it.

        Raises:
            StepwireError: REQUEST_ID_REUSED, FIELD_INVALID for BUFFER_ONE where the schedule
                does not buffer, or what CreateTask says of its task.
        """
        if (known := await self._known(request)) is not None and known.run is not None:
            return known.run
        held = await self._take(tenant_id, name)
        firing = asyncio.create_task(self._fire(held, overlap, request), name="schedule trigger")
        self._triggers.add(firing)
        firing.add_done_callback(self._triggers.discard)
        # Where the caller goes away now its task is created all the same, and must be recorded.
        return await asyncio.shield(firing)

    async def drain(self) -> None:
        """Wait for the triggers that are under way: their callers may have gone away."""
        if self._triggers:
            await asyncio.wait(self._triggers)

    def next_times(self, schedule: Schedule, count: int = PREVIEWED) -> Sequence[datetime]:
        """Return when a schedule fires next, at most `count` times."""
        if schedule.next_at is None:
            return []
        timing = Timing(schedule.schedule_id, schedule.config)
        following = timing.preview(schedule.next_at, count - 1)
        return [schedule.next_at, *(firing.nominal_at for firing in following)]

    async def _fire(
        self, held: Held, overlap: OverlapPolicy | None, request: Request | None
    ) -> Run:
        try:
            policy = _policy(held.schedule, overlap)
            if request is not None:
                begun = await self._store.begin_trigger(held, request)
                if begun.run is not None:
                    # The same call was carried out while this one waited.
                    await self._store.put_back([held], pause=timedelta(0))
                    return begun.run
                held = replace(held, now=begun.made_at)
            new, run = await self._firing.triggered(held, policy)
        except BaseException:
            await self._store.put_back([held], pause=timedelta(0))
            raise
        if request is None:
            await self._store.record([(held, new)])
        else:
            await self._store.record_trigger(held, new, run, request)
        self._changed()
        return run

    async def _take(self, tenant_id: str, name: str) -> Held:
        """Hold a schedule that knows of all its tasks."""
        held = await _when_free(lambda: self._store.take(tenant_id, name, lease=LEASE))
        while may_have_begun(held) and (tasks := await self._store.begun(held.schedule)):
            await self._store.record([(held, recovered(held, tasks))])
            held = await _when_free(lambda: self._store.take(tenant_id, name, lease=LEASE))
        return held

    async def _known(self, request: Request | None) -> Answered | None:
        """Return the earlier call with the same request: what it was, it need not be by now."""
        return None if request is None else await self._store.answered(request)

    async def _check_task(self, schedule: Schedule, now: datetime, *, keep: bool) -> None:
        template = CreateTaskRequest.FromString(schedule.config.task)
        # With what a firing adds, since that counts against the limits as well.
        firing = rules.tasks_request(
            schedule.config.task, name=schedule.name, nominal_at=now, request_id=""
        )
        for request, own in ((template, False), (firing, True)):
            await self._starter.check(
                request,
                tenant_id=schedule.tenant_id,
                field="config.task",
                own=own,
                # What stands for the newest version is looked up at each firing.
                keep=own and keep and bool(request.workflow.version),
            )

    async def _change(
        self,
        tenant_id: str,
        name: str,
        change: Callable[[Schedule, datetime], Schedule],
        request: Request | None,
    ) -> Schedule:
        changed = await _when_free(lambda: self._store.change(tenant_id, name, change, request))
        self._changed()
        return await self._current(tenant_id, changed)

    async def _current(self, tenant_id: str, done: Schedule | Answered) -> Schedule:
        if isinstance(done, Schedule):
            return done
        found = await self._store.get(tenant_id, done.schedule_id)
        if found is None:
            raise rules.not_found(str(done.schedule_id))
        return found


async def _when_free(call: Callable[[], Awaitable[R]]) -> R:
    """Make a call again until no firing is in its way.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE, when one was for longer than a lease.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + LEASE.total_seconds()
    while True:
        try:
            return await call()
        except Busy:
            if loop.time() >= end:
                raise StepwireError(
                    Reason.DEPENDENCY_UNAVAILABLE,
                    "firings of the schedule are being carried out all the time; try again",
                    metadata={"dependency": "schedule"},
                ) from None
            await asyncio.sleep(BUSY_PAUSE_SECONDS)


def _policy(schedule: Schedule, asked: OverlapPolicy | None) -> OverlapPolicy:
    """Return the policy of a trigger."""
    policy = asked or schedule.config.overlap
    if policy is OverlapPolicy.BUFFER_ONE and schedule.config.overlap is not policy:
        raise field_invalid("overlap_policy", "BUFFER_ONE is only for a schedule that has it")
    return policy


def _timed(schedule: Schedule, now: datetime) -> Schedule:
    """Set a schedule's next firing: the first from now on."""
    if schedule.paused:
        return replace(schedule, next_at=None, due_at=None)
    firing = Timing(schedule.schedule_id, schedule.config).first(now)
    if firing is None:
        return replace(schedule, next_at=None, due_at=None)
    return replace(schedule, next_at=firing.nominal_at, due_at=firing.due_at)


def _check_fires(schedule: Schedule, now: datetime) -> None:
    if Timing(schedule.schedule_id, schedule.config).first(now) is None:
        raise field_invalid("config.end_time", "the schedule would never fire")


def _times(schedule: Schedule) -> tuple[object, ...]:
    """What the times of a schedule's firings follow from."""
    config = schedule.config
    return config.cron, config.time_zone, config.start_at, config.end_at, config.jitter


def _without_buffer(schedule: Schedule, now: datetime) -> Schedule:
    if schedule.buffered_at is None:
        return schedule
    dropped = Run(schedule.buffered_at, Outcome.DROPPED, now)
    return replace(schedule, buffered_at=None, recent=with_runs(schedule.recent, [dropped]))


def _check_etag(schedule: Schedule, etag: str) -> None:
    if etag and etag != etag_of(schedule):
        raise rules.changed(schedule.name, etag_of(schedule))


def etag_of(schedule: Schedule) -> str:
    """Return what changes with every change of a schedule by its owner."""
    return f"{schedule.schedule_id.hex[-8:]}-{schedule.revision}"
