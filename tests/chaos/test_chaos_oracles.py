"""Every oracle is shown a sound history, and the same one with one thing wrong."""

from dataclasses import replace

import pytest

from tests.chaos.answers import expected
from tests.chaos.history import (
    Block,
    Event,
    Halt,
    History,
    StepEnd,
    TaskEnd,
    TaskHistory,
    Watch,
    load,
)
from tests.chaos.intents import StepIntent, TaskIntent
from tests.chaos.ledger import Execution
from tests.chaos.oracles import ORACLES, judge
from tests.chaos.values import digest, nonces

JOIN = TaskIntent(
    number=0,
    steps=(
        StepIntent("a"),
        StepIntent("b"),
        StepIntent("each", ("a",), items=2),
        StepIntent("join", ("b", "each")),
    ),
    items=("x", "y"),
    senders=2,
)
CANCELLED = TaskIntent(1, (StepIntent("a"), StepIntent("b", ("a",))), ends=("CANCELLED",))
RUN = """TASK_CREATED
TASK_STARTED
STEP_STARTED a 1
STEP_STARTED b 1
STEP_RETRYING b 1
STEP_SUCCEEDED a 1
STEP_STARTED each 1
STEP_EXPANDED each 1
STEP_STARTED each[0] 1
STEP_STARTED each[1] 1
STEP_LOST each[1] 1
STEP_STARTED b 2
STEP_SUCCEEDED b 2
STEP_SUCCEEDED each[0] 1
STEP_STARTED each[1] 2
STEP_SUCCEEDED each[1] 2
STEP_SUCCEEDED each 1
STEP_STARTED join 1
STEP_SUCCEEDED join 1
TASK_SUCCEEDED"""
# Its last step fails, and what had succeeded is undone.
FAILING = TaskIntent(
    number=2,
    steps=(
        StepIntent("a", undone=True, limit=("narrow", 1)),
        StepIntent("b", ("a",), undone=True, limit=("narrow", 1)),
        StepIntent("bad", ("b",), {"never": True}),
    ),
    ends=("FAILED",),
)
FAIL_RUN = """TASK_CREATED
TASK_STARTED
STEP_STARTED a 1
STEP_SUCCEEDED a 1
STEP_STARTED b 1
STEP_SUCCEEDED b 1
STEP_STARTED bad 1
STEP_FAILED bad 1
TASK_COMPENSATING
STEP_STARTED ~undo/b 1
STEP_SUCCEEDED ~undo/b 1
STEP_STARTED ~undo/a 1
STEP_SUCCEEDED ~undo/a 1
TASK_FAILED"""
CANCEL_RUN = """TASK_CREATED
TASK_STARTED
STEP_STARTED a 1
STEP_SUCCEEDED a 1
STEP_STARTED b 1
TASK_CANCELLED"""


def events_of(text):
    """Events from lines "TYPE step attempt"."""
    fields = [[*line.split(), "", "0"][:3] for line in text.splitlines()]
    return tuple(
        Event(cursor, kind, step, int(attempt), at=100.0 + cursor)
        for cursor, (kind, step, attempt) in enumerate(fields, start=1)
    )


def nonce(step, attempt):
    return f"{step}#{attempt}"


def output(intent, step, attempt):
    return {"v": expected(intent).answers[step], "by": nonce(step, attempt)}


def execution(task, step, attempt, *, saw=(), pid=1):
    return Execution(
        task, step, attempt, f"{task}/{step}", nonce(step, attempt), pid, tuple(saw), 1.0, 1.0, 2.0
    )


def at_times(execution, begun, ended, *, failed=False):
    return replace(execution, begun=begun, ended=ended, failed=failed)


def join_task():
    ends = {"a": 1, "b": 2, "each[0]": 1, "each[1]": 2, "join": 1}
    outputs = {step: output(JOIN, step, attempt) for step, attempt in ends.items()}
    steps = [StepEnd(step, "SUCCEEDED", ends[step], outputs[step]) for step in ends]
    gathered = [outputs["each[0]"], outputs["each[1]"]]
    end = TaskEnd(
        state="SUCCEEDED",
        last_cursor=20,
        steps=(*steps, StepEnd("each", "SUCCEEDED", 1, gathered)),
        events=events_of(RUN),
    )
    return TaskHistory(
        intent=JOIN,
        answers=("t0", "t0", "t0"),
        watches=(Watch(0, end.events, ended=True), Watch(4, end.events[4:9], ended=False)),
        end=end,
        recorded=("t0",),
    )


def cancelled_task():
    end = TaskEnd(
        state="CANCELLED",
        last_cursor=6,
        steps=(
            StepEnd("a", "SUCCEEDED", 1, output(CANCELLED, "a", 1)),
            StepEnd("b", "CANCELLED", 1),
        ),
        events=events_of(CANCEL_RUN),
    )
    return TaskHistory(intent=CANCELLED, answers=("t1",), cancelled=6, end=end, recorded=("t1",))


def undo(step):
    undo_id = f"~undo/{step}"
    v = digest(undo_id, expected(FAILING).answers[step])
    return StepEnd(undo_id, "SUCCEEDED", 1, {"v": v, "by": nonce(undo_id, 1)})


def failing_task():
    end = TaskEnd(
        state="FAILED",
        last_cursor=14,
        steps=(
            StepEnd("a", "SUCCEEDED", 1, output(FAILING, "a", 1)),
            StepEnd("b", "SUCCEEDED", 1, output(FAILING, "b", 1)),
            StepEnd("bad", "FAILED", 1),
            undo("a"),
            undo("b"),
        ),
        events=events_of(FAIL_RUN),
    )
    return TaskHistory(intent=FAILING, answers=("t2",), end=end, recorded=("t2",))


def sound():
    executions = [
        execution("t0", "a", 1),
        execution("t0", "b", 1),
        execution("t0", "b", 2),
        execution("t0", "each[0]", 1),
        # Lost with its process, and done again by another.
        execution("t0", "each[1]", 1, pid=2),
        execution("t0", "each[1]", 2),
        execution(
            *("t0", "join", 1),
            saw=[nonce("b", 2), nonce("each[0]", 1), nonce("each[1]", 2)],
        ),
        execution("t1", "a", 1),
        execution("t1", "b", 1, saw=[nonce("a", 1)]),
        at_times(execution("t2", "a", 1), 1.0, 2.0),
        at_times(execution("t2", "b", 1, saw=[nonce("a", 1)]), 2.0, 3.0),
        execution("t2", "bad", 1, saw=[nonce("b", 1)]),
        execution("t2", "~undo/b", 1, saw=[nonce("b", 1)]),
        execution("t2", "~undo/a", 1, saw=[nonce("a", 1)]),
    ]
    return History((join_task(), cancelled_task(), failing_task()), tuple(executions))


def with_task(history, number, **changes):
    tasks = list(history.tasks)
    tasks[number] = replace(tasks[number], **changes)
    return replace(history, tasks=tuple(tasks))


def with_end(history, number, **changes):
    end = history.tasks[number].end
    assert end is not None
    return with_task(history, number, end=replace(end, **changes), watches=())


def with_events(history, number, text):
    events = events_of(text)
    return with_end(history, number, events=events, last_cursor=len(events))


def with_step(history, number, step, **changes):
    end = history.tasks[number].end
    assert end is not None
    steps = tuple(replace(each, **changes) if each.step == step else each for each in end.steps)
    return with_end(history, number, steps=steps)


def with_execution(history, *more):
    return replace(history, executions=(*history.executions, *more))


def without(text, line):
    assert line in text
    return text.replace(line + "\n", "")


def behind(text, line, *more):
    """Put lines behind a line."""
    assert line in text
    return text.replace(line, "\n".join([line, *more]))


def lost_in_a_block(history):
    """Process 2 was blocked when each[1] was taken from it, at 111 s."""
    return replace(history, blocks=(Block(2, begun=5.0, ended=10.0, at=109.0),))


BROKEN = {
    "P1 not in the record": lambda h: with_task(h, 0, recorded=(), end=None),
    "P1 refused later": lambda h: with_task(h, 0, refusals=("there is no task t0",)),
    "P2 starts again": lambda h: with_events(
        h, 0, behind(RUN, "STEP_SUCCEEDED a 1", "STEP_STARTED a 2", "STEP_LOST a 2")
    ),
    "P2 runs again": lambda h: with_execution(h, execution("t0", "a", 2)),
    "P2 runs twice": lambda h: with_execution(h, replace(execution("t0", "a", 1), nonce="another")),
    "P2 runs unclaimed": lambda h: with_execution(h, execution("t1", "b", 2)),
    "P2 runs for nobody": lambda h: with_execution(h, execution("t9", "a", 1)),
    "P2 runs unheard of": lambda h: with_execution(h, execution("t1", "c", 1)),
    "P3 succeeds twice": lambda h: with_events(
        h, 0, behind(RUN, "STEP_SUCCEEDED a 1", "STEP_SUCCEEDED a 1")
    ),
    "P3 succeeds again": lambda h: with_events(
        h, 0, behind(RUN, "STEP_SUCCEEDED a 1", "STEP_SUCCEEDED a 2")
    ),
    "P3 result of a lost attempt": lambda h: with_events(
        h, 0, behind(RUN, "STEP_LOST each[1] 1", "STEP_RETRYING each[1] 1")
    ),
    "P3 another attempt's result": lambda h: with_step(
        h, 0, "each[1]", output=output(JOIN, "each[1]", 1)
    ),
    "P3 another result was used": lambda h: with_execution(
        replace(h, executions=tuple(e for e in h.executions if (e.task, e.step) != ("t1", "b"))),
        execution("t1", "b", 1, saw=["unheard of"]),
    ),
    "P3 no event": lambda h: with_events(h, 0, without(RUN, "STEP_SUCCEEDED each[0] 1")),
    "P4 never ends": lambda h: with_end(h, 0, state="RUNNING"),
    "P4 ends otherwise": lambda h: with_end(h, 0, state="FAILED"),
    "P4 unanswered": lambda h: with_task(h, 0, unanswered=1),
    "P4 leaves a step": lambda h: with_step(h, 1, "b", state="RUNNING"),
    "P4 wrong answer": lambda h: with_step(
        h, 0, "join", output={"v": "wrong", "by": nonce("join", 1)}
    ),
    "P4 has a step too many": lambda h: with_end(
        h, 0, steps=(*h.tasks[0].end.steps, StepEnd("alien", "SUCCEEDED", 1))
    ),
    "P4 lacks a step": lambda h: with_end(
        h, 0, steps=tuple(step for step in h.tasks[0].end.steps if step.step != "b")
    ),
    "P5 starts early": lambda h: with_events(
        h, 0, behind(without(RUN, "STEP_STARTED join 1"), "STEP_STARTED b 2", "STEP_STARTED join 1")
    ),
    "P5 starts twice": lambda h: with_events(
        h, 0, behind(RUN, "STEP_STARTED join 1", "STEP_STARTED join 2")
    ),
    "P5 same attempt again": lambda h: with_events(
        h, 0, behind(RUN, "STEP_LOST each[1] 1", "STEP_STARTED each[1] 1", "STEP_LOST each[1] 1")
    ),
    "P5 gathers early": lambda h: with_events(
        h,
        0,
        behind(
            without(RUN, "STEP_SUCCEEDED each 1"), "STEP_LOST each[1] 1", "STEP_SUCCEEDED each 1"
        ),
    ),
    "P6 goes on": lambda h: with_events(
        h, 1, behind(CANCEL_RUN, "TASK_CANCELLED", "STEP_SUCCEEDED b 1")
    ),
    "P6 goes on before the answer": lambda h: with_task(
        with_events(h, 1, behind(CANCEL_RUN, "TASK_CANCELLED", "STEP_SUCCEEDED b 1")),
        1,
        cancelled=7,
    ),
    "P6 ends otherwise": lambda h: with_end(h, 1, state="SUCCEEDED"),
    "P6 moves on": lambda h: with_task(h, 1, cancelled=5),
    "P7 two at once": lambda h: with_times(h, "b", 1.5, 3.0),
    "P7 a lost one runs on": lambda h: with_times(h, "a", 1.0, None),
    "P7 two tasks at once": lambda h: with_task(
        with_task(h, 0, intent=replace(JOIN, concurrency=("few", 1))),
        1,
        intent=replace(CANCELLED, concurrency=("few", 1), ends=("SUCCEEDED",)),
    ),
    "P8 two subtasks": lambda h: with_task(h, 1, parent_step="s", recorded=("t1", "t8")),
    "P8 two answers": lambda h: with_task(h, 0, answers=("t0", "t9")),
    "P8 two tasks": lambda h: with_task(h, 0, recorded=("t0", "t9")),
    "P9 gap in the record": lambda h: with_end(
        h, 0, events=h.tasks[0].end.events[:3] + h.tasks[0].end.events[4:]
    ),
    "P9 gap in a watch": lambda h: with_task(
        h, 0, watches=(Watch(0, h.tasks[0].end.events[:3] + h.tasks[0].end.events[4:], True),)
    ),
    "P9 doubled in a watch": lambda h: with_task(
        h, 0, watches=(Watch(0, h.tasks[0].end.events[:1] + h.tasks[0].end.events, True),)
    ),
    "P9 a watch ends early": lambda h: with_task(
        h, 0, watches=(Watch(0, h.tasks[0].end.events[:9], ended=True),)
    ),
    "lease lost in a block": lost_in_a_block,
    "undo is missing": lambda h: with_end(h, 2, steps=h.tasks[2].end.steps[:-1]),
    "undo of something else": lambda h: with_step(h, 2, "~undo/a", output={"v": "x", "by": "y"}),
    "undo in the wrong order": lambda h: with_events(
        h,
        2,
        FAIL_RUN.replace("~undo/a", "~undo/c")
        .replace("~undo/b", "~undo/a")
        .replace("~undo/c", "~undo/b"),
    ),
    "undo of what did not fail": lambda h: with_end(h, 2, state="SUCCEEDED"),
}


def with_times(history, step, begun, ended):
    return replace(
        history,
        executions=tuple(
            at_times(each, begun, ended) if (each.task, each.step) == ("t2", step) else each
            for each in history.executions
        ),
    )


def test_a_sound_history_breaks_no_promise():
    assert judge(sound()) == []


@pytest.mark.parametrize("what", BROKEN)
def test_an_oracle_turns_red_on_what_it_is_for(what):
    oracle = what.split()[0]
    history = BROKEN[what](sound())
    assert list(ORACLES[oracle](history)), what


def test_every_oracle_is_shown_a_broken_history():
    assert {what.split()[0] for what in BROKEN} == ORACLES.keys()


def test_a_step_taken_from_a_process_that_was_not_blocked_is_no_violation():
    history = replace(sound(), blocks=(Block(1, begun=5.0, ended=10.0, at=109.0),))
    assert judge(history) == []


def test_a_gathering_step_may_be_lost_with_its_worker():
    text = RUN.replace("STEP_SUCCEEDED each 1", "STEP_LOST each 1\nSTEP_SUCCEEDED each 2")
    history = with_step(with_events(sound(), 0, text), 0, "each", attempt=2)
    assert judge(history) == []


def test_a_watch_may_end_behind_the_failure_of_its_task():
    """Results of steps that ran when the task failed are shown, and then it is over."""
    text = "TASK_CREATED\nTASK_STARTED\nSTEP_STARTED a 1\nSTEP_STARTED b 1\nSTEP_FAILED b 1"
    events = events_of(f"{text}\nTASK_FAILED\nSTEP_SUCCEEDED a 1")
    history = with_task(
        with_end(sound(), 0, events=events, last_cursor=7), 0, watches=(Watch(0, events, True),)
    )
    assert list(ORACLES["P9"](history)) == []
    retried = (*events, Event(8, "TASK_RETRIED"))
    history = with_task(
        with_end(history, 0, events=retried, last_cursor=8), 0, watches=(Watch(0, retried, True),)
    )
    assert list(ORACLES["P9"](history))


def test_nonces_are_found_wherever_outputs_are():
    one, other = ({"v": "1", "by": "x"}, {"v": "2", "by": "y"})
    assert list(nonces({"a": one, "each": [other, one], "n": 1})) == ["x", "y", "x"]


def test_what_a_dead_or_stopped_process_held_does_not_run():
    """Its execution has no end, or was cut off when the process went on."""
    sound_history = with_times(sound(), "a", 1.0, None)
    assert list(ORACLES["P7"](replace(sound_history, halts=(Halt(1, 1.9),)))) == []
    executions = tuple(
        replace(each, ended=9.0, failed=True) if (each.task, each.step) == ("t2", "a") else each
        for each in sound_history.executions
    )
    history = replace(sound_history, executions=executions, halts=(Halt(1, 1.9),))
    assert list(ORACLES["P7"](history)) == []
    assert list(ORACLES["P7"](replace(history, halts=(Halt(2, 1.9),))))


def few_at_once(begun, ended):
    """A task under a key that fails at 2.0 and goes on at 3.0, and another beside it."""
    intent = replace(FAILING, concurrency=("few", 1), retried=True)
    events = events_of(
        "TASK_CREATED\nTASK_STARTED\nSTEP_FAILED bad 1\nTASK_FAILED\nTASK_RETRIED\n"
        "STEP_STARTED slow 1\nSTEP_SUCCEEDED slow 1\nSTEP_STARTED bad 2\nSTEP_SUCCEEDED bad 2"
    )
    one = TaskHistory(intent, end=TaskEnd("RUNNING", 9, (), events), recorded=("t5",))
    other = TaskHistory(
        replace(intent, number=7), end=TaskEnd("RUNNING", 0, (), ()), recorded=("t6",)
    )
    executions = (
        at_times(execution("t5", "bad", 1), 1.0, 2.0, failed=True),
        at_times(execution("t5", "slow", 1), 1.0, 5.0),
        at_times(execution("t5", "bad", 2), 3.0, 4.0),
        at_times(execution("t6", "a", 1), begun, ended),
    )
    return History((one, other), executions)


@pytest.mark.parametrize(
    ("begun", "ended", "too_many"),
    [(2.1, 2.9, False), (1.5, 1.9, True), (2.5, 3.1, True), (4.5, 4.6, True), (5.0, 6.0, False)],
)
def test_a_task_is_without_its_place_from_its_failure_to_its_retry(begun, ended, too_many):
    assert bool(list(ORACLES["P7"](few_at_once(begun, ended)))) == too_many


def test_histories_are_read_as_they_were_saved(tmp_path):
    history = replace(lost_in_a_block(sound()), halts=(Halt(1, 1.0),))
    history.save(tmp_path / "history.json")
    assert load(tmp_path / "history.json") == history
