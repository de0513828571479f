from io import StringIO

from rich.console import Console

from stepwire.api.executor.v1.task_pb2 import TaskEvent, TaskEventType
from stepwire.cli.board import LiveBoard, PlainBoard, make_board
from stepwire.sdk.tally import Tally


def play(console: Console) -> None:
    board = make_board(console)
    tally = Tally(total=2)
    board.begin("documents", tally)
    for task_id in ("a", "b"):
        tally.add(TaskEvent(task_id=task_id, type=TaskEventType.TASK_EVENT_TYPE_TASK_SUCCEEDED))
        board.update()
    board.say("something happened")
    board.end()


def test_lines_tell_the_beginning_what_happened_and_the_end() -> None:
    file = StringIO()
    console = Console(file=file, width=80)
    assert isinstance(make_board(console), PlainBoard)
    play(console)
    begin, said, end = file.getvalue().splitlines()
    assert begin == "documents: 2 tasks"
    assert said == "documents: something happened"
    assert end.startswith("documents: 2/2 done after ")
    assert "\x1b" not in file.getvalue()


def test_bars_show_the_state_on_a_terminal() -> None:
    file = StringIO()
    console = Console(file=file, width=100, force_terminal=True)
    assert isinstance(make_board(console), LiveBoard)
    play(console)
    assert "2/2" in file.getvalue()
    assert "something happened" in file.getvalue()


def test_a_finished_bar_is_not_drawn_again_below_the_next() -> None:
    file = StringIO()
    console = Console(file=file, width=80, force_terminal=True)
    board = make_board(console)
    board.begin("documents", Tally(total=2))
    board.end()
    first = file.tell()
    board.begin("questions", Tally(total=2))
    board.end()
    assert "documents" in file.getvalue()[:first]
    assert "documents" not in file.getvalue()[first:]
