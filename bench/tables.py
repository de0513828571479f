"""The tables of docs/benchmarks.md, written from what benchmarks print.

    python -m bench.executor --json | python -m bench.tables executor

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`; the rest of the page is
written by hand. Which rows it has is said here; a floor that a figure does not reach is
marked as missed.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN = "<!-- table: {name} -->\n"
END = "<!-- end of table -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a table.

    Attributes:
        text: what it is.
        key: its name in the benchmark's result.
        unit: stands behind the figure.
        floor: the figure that it must reach; None where nothing is asked for.
        at_most: whether the floor is a ceiling.
        peers: names of the peer's figures, the best of which is shown.
        digits: decimal places.
    """

    text: str
    key: str
    unit: str = ""
    floor: float | None = None
    at_most: bool = False
    peers: str = ""
    digits: int = 0


EXECUTOR = (
    Row("tasks of one step, per second", "one_step_tasks_per_s", floor=5000, peers="dbos_one_step"),
    Row(
        "tasks of five steps in a chain, per second",
        "five_step_tasks_per_s",
        floor=1500,
        peers="dbos_five_step",
    ),
    Row("tasks of 1 → 10 → join, per second", "fanout10_tasks_per_s", floor=500),
    Row("tasks of one CEL step, per second", "transform_tasks_per_s"),
    Row(
        "one CreateTask call each, 64 in flight, per second",
        "one_step_unary_tasks_per_s",
        floor=1500,
    ),
    Row(
        "idle, CreateTask to the answer of WaitTask, p50",
        "idle_latency_ms_p50",
        " ms",
        floor=8,
        at_most=True,
        peers="dbos_idle_queue_ms_p50",
        digits=1,
    ),
    Row(
        "the same, p99",
        "idle_latency_ms_p99",
        " ms",
        floor=20,
        at_most=True,
        peers="dbos_idle_queue_ms_p99",
        digits=1,
    ),
    Row(
        "added per step of an idle chain",
        "step_overhead_ms_p50",
        " ms",
        floor=1.5,
        at_most=True,
        peers="dbos_added_step_call_ms",
        digits=2,
    ),
    Row(
        "a page written to the same disk, waited for, p50",
        "durable_write_ms_p50",
        " ms",
        digits=2,
    ),
    Row("the same, p99", "durable_write_ms_p99", " ms", digits=1),
    Row("steps of 1 s in flight, one worker", "inflight_steps", floor=5000),
    Row("… finished per second", "inflight_steps_per_s", floor=2500),
    Row(
        "SIGKILL of a worker, until all its steps run again, longest",
        "recovery_s_max",
        " s",
        floor=10,
        at_most=True,
        digits=1,
    ),
    Row(
        "memory of a worker with 5,000 in flight",
        "memory_mb_per_worker",
        " MB",
        floor=400,
        at_most=True,
    ),
    Row(
        "of one step with 1.1 million other tasks in the record, over without",
        "ratio_backlog_one_step_tasks_per_s",
        floor=0.8,
        digits=2,
    ),
    Row("… of five steps", "ratio_backlog_five_step_tasks_per_s", floor=0.8, digits=2),
    Row("… of 1 → 10 → join", "ratio_backlog_fanout10_tasks_per_s", floor=0.8, digits=2),
    Row("… one by one", "ratio_backlog_one_step_unary_tasks_per_s", floor=0.8, digits=2),
    Row("steps lost", "lost", floor=0, at_most=True),
    Row("steps run again after completion", "repeated", floor=0, at_most=True),
)
_PER_BARE = "… over the bare loop"
MODEL = (
    Row("texts of 16 tokens, one per call, 64 in flight, per second", "texts_per_s_16"),
    Row(_PER_BARE, "ratio_raw_16", floor=0.8, digits=2),
    Row("the same of a gRPC server in Python that does nothing else", "ratio_limit_16", digits=2),
    Row("texts of 128 tokens", "texts_per_s_128"),
    Row(_PER_BARE, "ratio_raw_128", floor=0.85, digits=2),
    Row("texts of mixed lengths", "texts_per_s_mixed"),
    Row(_PER_BARE, "ratio_raw_mixed", floor=0.85, digits=2),
    Row(
        "padding, as a part of the mixed batches",
        "padding_waste_mixed",
        floor=0.1,
        at_most=True,
        digits=3,
    ),
    Row(
        "64 texts per call over the bare loop, 16 tokens",
        "ratio_raw_batch64_16",
        floor=0.95,
        digits=2,
    ),
    Row("the same, 128 tokens", "ratio_raw_batch64_128", floor=0.95, digits=2),
    Row("the same, mixed lengths", "ratio_raw_batch64_mixed", floor=0.95, digits=2),
    Row("over MLServer, 16 tokens", "ratio_mlserver_16", floor=1.4, digits=2),
    Row("over MLServer, mixed lengths", "ratio_mlserver_mixed", floor=2, digits=2),
    Row("… with a graph of the usual kind", "ratio_mlserver_mixed_usual_graph", digits=2),
    Row("over Triton, 16 tokens", "ratio_triton_16", floor=1.1, digits=2),
    Row("over Triton, mixed lengths", "ratio_triton_mixed", digits=2),
    Row("… with a graph of the usual kind", "ratio_triton_mixed_usual_graph", digits=2),
    Row("int8 over float32, 16 tokens", "ratio_int8_16", floor=1.5, digits=2),
    Row("int8 over float32, 128 tokens", "ratio_int8_128", floor=1.5, digits=2),
    Row("cosine of int8 to float32, mean", "int8_cosine_mean", floor=0.98, digits=3),
    Row("the same, lowest of 64 texts of random words", "int8_cosine_min", digits=3),
    Row("one short text, idle, p50", "latency_ms_p50", " ms", digits=1),
    Row("the same in the bare loop", "raw_latency_ms_p50", " ms", digits=1),
    Row("one short text, idle, p99", "latency_ms_p99", " ms", digits=1),
    Row("memory, with the int8 model", "memory_mb", " MB"),
)
_PER_RAW = "… over raw asyncpg"
_PER_RAW_AT_MOST = "… what gRPC alone would leave"
_RECALL = "… recall@10"
_FEWEST = "… fewest found"
_RAW_QPS = "… raw asyncpg, per second"
_RAW_RECALL = "… raw asyncpg, recall@10"
_RAW_FEWEST = "… raw asyncpg, fewest found"


def _filtered(share: str) -> tuple[Row, ...]:
    ours, raw = f"filtered_{share}", f"raw_filtered_{share}"
    return (
        Row(f"searches with a filter that leaves {share} %, 1 client, per second", f"{ours}_qps"),
        Row(_RECALL, f"{ours}_recall", floor=0.95, digits=3),
        Row(_FEWEST, f"{ours}_fewest", floor=10),
        Row(_RAW_QPS, f"{raw}_qps"),
        Row(_RAW_RECALL, f"{raw}_recall", digits=3),
        Row(_RAW_FEWEST, f"{raw}_fewest"),
    )


def _streamed(clients: int) -> tuple[Row, ...]:
    callers = "1 client" if clients == 1 else f"{clients} clients"
    return (
        Row(f"searches over a stream, {callers}, per second", f"stream_qps_{clients}"),
        Row(_PER_RAW, f"stream_ratio_raw_{clients}", floor=0.8, digits=2),
        Row(_PER_RAW_AT_MOST, f"stream_ratio_limit_{clients}", digits=2),
        Row(_RECALL, f"stream_recall_{clients}", floor=0.95, digits=3),
        Row("… p50", f"stream_latency_{clients}_ms_p50", " ms", digits=2),
        Row("… p99", f"stream_latency_{clients}_ms_p99", " ms", digits=2),
    )


VECTOR = (
    Row("searches, 1 client, per second", "qps_1"),
    Row(_PER_RAW, "ratio_raw_1", floor=0.8, digits=2),
    Row(_PER_RAW_AT_MOST, "ratio_limit_1", digits=2),
    Row(_RECALL, "recall_1", floor=0.95, digits=3),
    Row("… p50", "latency_1_ms_p50", " ms", digits=2),
    Row("… p99", "latency_1_ms_p99", " ms", digits=2),
    Row("… added to raw asyncpg's p50", "added_latency_ms_p50", " ms", 1, at_most=True, digits=2),
    Row("searches, 8 clients, per second", "qps_8"),
    Row(_PER_RAW, "ratio_raw_8", floor=0.8, digits=2),
    Row(_PER_RAW_AT_MOST, "ratio_limit_8", digits=2),
    Row(_RECALL, "recall_8", floor=0.95, digits=3),
    Row("… p50", "latency_8_ms_p50", " ms", digits=2),
    Row("… p99", "latency_8_ms_p99", " ms", digits=2),
    *_streamed(1),
    Row(
        "… added to raw asyncpg's p50",
        "stream_added_latency_ms_p50",
        " ms",
        1,
        at_most=True,
        digits=2,
    ),
    *_streamed(8),
    Row("searches, 16 per call, 2 callers, per second", "batch16_qps"),
    Row("… over raw asyncpg with 8 clients", "ratio_raw_batch16", floor=0.8, digits=2),
    *_filtered("50"),
    *_filtered("10"),
    *_filtered("1"),
    *_filtered("0.1"),
    Row("searches by nearness and words, 1 client, per second", "hybrid_qps"),
    Row("… over nearness alone", "hybrid_ratio", floor=0.5, digits=2),
    Row("rows taken in bulk, per second", "ingest_rows_per_s"),
    Row("… over raw binary COPY", "ingest_ratio", floor=0.7, digits=2),
    Row("rows upserted with their words, per second", "upsert_with_words_rows_per_s"),
    Row("build of the index", "build_seconds", " s"),
)
TABLES: Mapping[str, Sequence[Row]] = {"executor": EXECUTOR, "model": MODEL, "vector": VECTOR}


def table(rows: Sequence[Row], result: Mapping[str, Any]) -> str:
    """Return the table of a result, in Markdown; figures that it lacks are left out."""
    found = [row for row in rows if row.key in result]
    with_peers = any(_best(row, result) is not None for row in found)
    head = ["Figure", "Ours", "Spread", "Floor", *(["Best of the peer's", "Ratio"] * with_peers)]
    lines = [head, ["---"] * len(head)]
    lines += [_cells(row, result, with_peers=with_peers) for row in found]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cells(row: Row, result: Mapping[str, Any], *, with_peers: bool) -> list[str]:
    value = float(result[row.key])
    spread = result.get("spread", {}).get(row.key.removesuffix("_max"))
    cells = [
        row.text,
        _shown(row, value),
        "" if spread is None else f"{spread:.2f}",
        "" if row.floor is None else _floor(row, value),
    ]
    if with_peers:
        best = _best(row, result)
        cells += ["", ""] if best is None else [_shown(row, best), _ratio(row, value, best)]
    return cells


def _shown(row: Row, value: float) -> str:
    return f"{value:,.{row.digits}f}{row.unit}"


def _ratio(row: Row, value: float, best: float) -> str:
    """How many times better than the peer."""
    return f"{best / value if row.at_most else value / best:.1f}"


def _floor(row: Row, value: float) -> str:
    assert row.floor is not None
    missed = value > row.floor if row.at_most else value < row.floor
    return f"{row.floor:,}{row.unit}" + (", **missed**" if missed else "")


def _best(row: Row, result: Mapping[str, Any]) -> float | None:
    peers = result.get("peers", {})
    values = [value for name, value in peers.items() if row.peers and name.startswith(row.peers)]
    if not values:
        return None
    return min(values) if row.at_most else max(values)


def with_table(page: str, name: str, text: str) -> str:
    """Return the page with another table of this name.

    Raises:
        ValueError: the page has no place for it.
    """
    before, begin, rest = page.partition(BEGIN.format(name=name))
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no table {name!r}")
    return f"{before}{begin}{text}{end}{after}"


def main() -> None:
    """Read a result from stdin, and write its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(TABLES))
    name = parser.parse_args().name
    last = sys.stdin.read().rstrip("\n").rpartition("\n")[2]
    text = table(TABLES[name], json.loads(last))
    PAGE.write_text(with_table(PAGE.read_text("utf-8"), name, text), "utf-8")
    sys.stdout.write(f"{last}\n")


if __name__ == "__main__":
    main()
