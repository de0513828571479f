"""P1 and P8: what was accepted is there, once."""

from collections.abc import Iterator

from tests.chaos.history import History


def p1_accepted_is_never_lost(history: History) -> Iterator[str]:
    """Every task whose acceptance was answered is in the record."""
    for task in history.tasks:
        for task_id in sorted(set(task.answers) - set(task.recorded)):
            yield f"{task.name}: accepted as {task_id}, and the record does not know it"
        if task.answers:
            for refusal in task.refusals:
                yield f"{task.name}: accepted, and then refused: {refusal}"


def p8_the_same_request_id_gives_the_same_task(history: History) -> Iterator[str]:
    """However often a request is sent, one task is made and answered; so with subtasks."""
    for task in history.tasks:
        if len(set(task.answers)) > 1:
            yield f"{task.name}: one request, several tasks answered"
        if len(task.recorded) > 1:
            yield f"{task.name}: one request, {len(task.recorded)} tasks in the record"
