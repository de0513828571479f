import pytest

from model_svc.generation.stops import StopScanner


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        (["one ", "two"], [], "one two"),
        (["one ", "two"], ["x"], "one two"),
        (["one END two"], ["END"], "one "),
        (["one E", "N", "D two"], ["END"], "one "),
        (["one E", "N", "E", "ND"], ["END"], "one EN"),
        (["aaa", "b"], ["aab"], "a"),
        (["a", "b", "c"], ["bc", "b"], "a"),
        (["one EN"], ["END"], "one EN"),
        (["END"], ["END"], ""),
    ],
)
def test_a_text_ends_before_the_first_stop(
    pieces: list[str], stops: list[str], expected: str
) -> None:
    scanner = StopScanner(stops)
    text = ""
    for piece in pieces:
        if not scanner.hit:
            text += scanner.feed(piece)
    assert text + scanner.flush() == expected
    assert scanner.hit == (expected != "".join(pieces))


def test_only_what_may_begin_a_stop_is_held_back() -> None:
    scanner = StopScanner(["END"])
    assert [scanner.feed(piece) for piece in ("one E", "x", "E", "N", "x")] == [
        *("one ", "Ex", "", "", "ENx")
    ]
