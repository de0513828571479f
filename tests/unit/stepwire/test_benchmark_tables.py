"""Tables of figures, as the benchmarks' page shows them."""

import pytest

from bench.tables import BEGIN, END, Row, table, with_table

ROWS = (
    Row("tasks per second", "tasks_per_s", floor=1500, peers="peer_tasks"),
    Row("latency", "latency_ms", " ms", floor=8, at_most=True, digits=1),
    Row("what this run left out", "other"),
)


def test_a_figure_stands_beside_its_spread_its_floor_and_the_best_of_the_peers():
    result = {
        "tasks_per_s": 3000,
        "latency_ms": 9.26,
        "spread": {"tasks_per_s": 0.25, "latency_ms": 0.5},
        "peers": {"peer_tasks_a": 100, "peer_tasks_b": 300, "peer_other": 900},
    }
    assert table(ROWS, result).splitlines() == [
        "| Figure | Ours | Spread | Floor | Best of the peer's | Ratio |",
        "| --- | --- | --- | --- | --- | --- |",
        "| tasks per second | 3,000 | 0.25 | 1,500 | 300 | 10.0 |",
        "| latency | 9.3 ms | 0.50 | 8 ms, **missed** |  |  |",
    ]


@pytest.mark.parametrize(
    ("key", "value", "missed"),
    [
        ("tasks_per_s", 1499, True),
        ("tasks_per_s", 1500, False),
        ("latency_ms", 8.1, True),
        ("latency_ms", 8, False),
    ],
)
def test_a_floor_that_is_not_reached_is_marked(key, value, missed):
    assert ("missed" in table(ROWS, {key: value})) is missed


def test_only_the_table_of_that_name_is_replaced():
    places = [f"{BEGIN.format(name=name)}old\n{END}\n" for name in "xy"]
    page = "before\n" + "between\n".join(places)
    assert with_table(page, "y", "new\n") == page[: page.rindex("old")] + f"new\n{END}\n"
    with pytest.raises(ValueError, match="no table 'z'"):
        with_table(page, "z", "new\n")
