"""From one step of a request's graph to a compiled one. Pure."""

from collections.abc import Sequence
from datetime import timedelta

from executor_svc.graphs.durations import LONGEST_WAIT, span_of
from executor_svc.graphs.expressions import Expression, compile_expression
from executor_svc.graphs.graph import Compensation, Join, JoinMode, Limit, Step
from executor_svc.graphs.kinds import check_kind
from executor_svc.graphs.retry import compile_retry
from stepwire.api.executor.v1 import graph_pb2
from stepwire.errors import FieldFault, Reason, StepwireError, field_invalid

DEFAULT_QUEUE = "default"
DEFAULT_TIMEOUT = timedelta(minutes=5)
MAX_TIMEOUT = timedelta(hours=24)
LOWEST_PRIORITY = 9
MAX_PARALLEL = 10_000
MAX_RUNNING = 100_000
MAX_STARTS = 1_000_000
LONGEST_PERIOD = timedelta(days=1)


def compile_step(
    message: graph_pb2.Step,
    *,
    ordinal: int,
    successors: Sequence[tuple[int, graph_pb2.Step]],
    field: str,
) -> Step:
    """Check a step and compile it; `successors` are the steps that depend on it.

    Raises:
        StepwireError: FIELD_INVALID, EXPRESSION_INVALID or STEP_KIND_UNKNOWN; each names the
            field.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        raise StepwireError(
            Reason.STEP_KIND_UNKNOWN,
            f"{field}: step {message.name!r} has no kind that this server knows",
            metadata={"step": message.name},
            faults=[FieldFault(field, "must have one of the step kinds")],
        )
    compiler = _Compiler(message, field)
    spec = getattr(message, kind)
    join = compile_join(message.join, field=f"{field}.join", count=len(message.depends_on))
    for_each, when = compiler.plain("for_each"), compiler.plain("when")
    compiler.check_items()
    return Step(
        ordinal=ordinal,
        name=message.name,
        kind=kind,
        spec=spec,
        queue=message.queue or DEFAULT_QUEUE,
        retry=compile_retry(message.retry, field=f"{field}.retry"),
        timeout=compiler.span("timeout", MAX_TIMEOUT) or DEFAULT_TIMEOUT,
        lifetime=compiler.span("schedule_to_close", LONGEST_WAIT) or None,
        heartbeat_timeout=compiler.span("heartbeat_timeout", MAX_TIMEOUT) or None,
        priority=check_priority(message.priority, field=f"{field}.priority"),
        depends_on=tuple(message.depends_on),
        join=join,
        when=when,
        for_each=for_each,
        items_join=compile_join(message.items_join, field=f"{field}.items_join", count=None),
        max_parallel=message.max_parallel,
        input=compiler.own("input") if message.input else None,
        template=tuple(
            check_kind(
                kind,
                spec,
                field=f"{field}.{kind}",
                expression=lambda source, at: compiler.compile(source, at, "value"),
            )
        ),
        limit=compiler.limit(),
        compensation=compiler.compensation(),
        successors=tuple(place for place, _ in successors),
        tolerated=_tolerated([each for _, each in successors]),
    )


def check_priority(priority: int, *, field: str) -> int:
    """Return a priority if it is one, or 0.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`.
    """
    if not 0 <= priority <= LOWEST_PRIORITY:
        raise field_invalid(field, f"must be from 1 to {LOWEST_PRIORITY}, or 0")
    return priority


def compile_join(message: graph_pb2.JoinPolicy, *, field: str, count: int | None) -> Join:
    """Read a join policy over `count` steps; None where the number is not known yet.

    Raises:
        StepwireError: FIELD_INVALID, naming the field.
    """
    match message.mode:
        case graph_pb2.JOIN_MODE_UNSPECIFIED | graph_pb2.JOIN_MODE_ALL:
            join = Join()
        case graph_pb2.JOIN_MODE_ANY:
            join = Join(JoinMode.AT_LEAST, 1)
        case graph_pb2.JOIN_MODE_AT_LEAST:
            join = Join(JoinMode.AT_LEAST, message.at_least)
        case graph_pb2.JOIN_MODE_ALL_DONE:
            join = Join(JoinMode.ALL_DONE)
        case _:
            raise field_invalid(f"{field}.mode", "is not a mode that this server knows")
    if message.mode == graph_pb2.JOIN_MODE_AT_LEAST:
        if message.at_least < 1:
            raise field_invalid(f"{field}.at_least", "must be at least 1")
        if count is not None and message.at_least > count:
            raise field_invalid(
                f"{field}.at_least",
                f"{message.at_least} can never succeed: the step depends on {count}",
            )
    elif message.at_least:
        raise field_invalid(f"{field}.at_least", "must be 0 unless the mode is AT_LEAST")
    if count == 0 and join.mode is not JoinMode.ALL:
        raise field_invalid(field, "needs depends_on")
    return join


def _tolerated(successors: Sequence[graph_pb2.Step]) -> bool:
    """Whether the task goes on when the step fails: everything behind it can."""
    tolerant = (
        graph_pb2.JOIN_MODE_ANY,
        graph_pb2.JOIN_MODE_AT_LEAST,
        graph_pb2.JOIN_MODE_ALL_DONE,
    )
    return bool(successors) and all(step.join.mode in tolerant for step in successors)


class _Compiler:
    """Reads the fields of one step."""

    def __init__(self, message: graph_pb2.Step, field: str) -> None:
        self._message = message
        self._field = field
        self._steps = tuple(message.depends_on)

    def compile(self, source: str, at: str, *more: str) -> Expression:
        """Compile what an attempt evaluates, `more` being visible besides the usual."""
        items = ("item", "index") if self._message.for_each else ()
        return compile_expression(
            source,
            field=at,
            variables={"input", "steps", "states", *items, *more},
            steps=self._steps,
        )

    def own(self, name: str) -> Expression:
        """Compile the field `name`, evaluated for each item."""
        return self.compile(getattr(self._message, name), f"{self._field}.{name}")

    def plain(self, name: str) -> Expression | None:
        """Compile the field `name`, evaluated once for all items; None if it is empty."""
        source = getattr(self._message, name)
        if not source:
            return None
        return compile_expression(
            source,
            field=f"{self._field}.{name}",
            variables={"input", "steps", "states"},
            steps=self._steps,
        )

    def span(self, name: str, longest: timedelta) -> timedelta:
        """Read the span of time in the field `name`."""
        at = f"{self._field}.{name}"
        span = span_of(getattr(self._message, name), field=at)
        if not timedelta(0) <= span <= longest:
            hours = longest.total_seconds() / 3600
            raise field_invalid(at, f"must be from 0 to {hours:g} hours")
        return span

    def check_items(self) -> None:
        """Check the fields that only a for_each step may have."""
        message = self._message
        if not 0 <= message.max_parallel <= MAX_PARALLEL:
            raise field_invalid(f"{self._field}.max_parallel", f"must be from 0 to {MAX_PARALLEL}")
        if not message.for_each and (message.max_parallel or message.HasField("items_join")):
            name = "max_parallel" if message.max_parallel else "items_join"
            raise field_invalid(f"{self._field}.{name}", "needs for_each")

    def limit(self) -> Limit | None:
        """Read the step's limit."""
        if not self._message.HasField("limit"):
            return None
        at, limit = f"{self._field}.limit", self._message.limit
        if not 0 <= limit.max_running <= MAX_RUNNING:
            raise field_invalid(f"{at}.max_running", f"must be from 0 to {MAX_RUNNING}")
        if not 0 <= limit.max_starts <= MAX_STARTS:
            raise field_invalid(f"{at}.max_starts", f"must be from 0 to {MAX_STARTS}")
        if not limit.max_running and not limit.max_starts:
            raise field_invalid(at, "must have max_running or max_starts")
        period = span_of(limit.period, field=f"{at}.period")
        if not timedelta(0) <= period <= LONGEST_PERIOD:
            raise field_invalid(f"{at}.period", "must be from 0 to 24 hours")
        return Limit(
            key=self.compile(limit.key, f"{at}.key"),
            max_running=limit.max_running,
            max_starts=limit.max_starts,
            period=period or timedelta(seconds=1),
        )

    def compensation(self) -> Compensation | None:
        """Read what undoes the step."""
        if not self._message.HasField("compensation"):
            return None
        at, message = f"{self._field}.compensation", self._message.compensation
        kind = message.WhichOneof("kind")
        if kind is None:
            raise field_invalid(at, "must have one of the kinds")
        # The expressions of its kind are evaluated when it runs, in a graph of its own.
        list(
            check_kind(
                kind,
                getattr(message, kind),
                field=f"{at}.{kind}",
                expression=lambda source, where: compile_expression(
                    source, field=where, variables={"input", "value"}, steps=()
                ),
            )
        )
        compile_retry(message.retry, field=f"{at}.retry")
        span = span_of(message.timeout, field=f"{at}.timeout")
        if not timedelta(0) <= span <= MAX_TIMEOUT:
            raise field_invalid(f"{at}.timeout", "must be from 0 to 24 hours")
        return Compensation(
            spec=message,
            input=self.compile(message.input, f"{at}.input", "output") if message.input else None,
        )
