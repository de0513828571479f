"""The router: how well it chooses, and what a decision costs.

    python -m bench.router --train F [F ...] --test F [--splits 10]     quality
    python -m bench.router --decide [--rate 500] [--seconds 10]         cost of Decide
    python -m bench.router --load [--seconds 5] [--runs 3] [--no-peer]  what Generate adds
    python -m bench.router --cache [--runs 3]                           what caches give again
    python -m bench.router --soak [--calls 360000]                      whether it grows

Files are CSV, plain or .gz, with the columns source, prompt, weak_correct and
strong_correct. Each prints one JSON object as its last line.
"""

import argparse
import json
from pathlib import Path

import uvloop

from bench.router_cache import measure_cache
from bench.router_decide import measure_decide
from bench.router_load import measure_load
from bench.router_quality import measure_quality
from bench.router_soak import measure_soak

LOAD_CALLS = 10_000
# A hundred a second.
HOUR_CALLS = 360_000


def main() -> None:
    arguments = _arguments()
    if arguments.train:
        result = measure_quality(arguments.train, arguments.test, splits=arguments.splits)
    elif arguments.load:
        measuring = measure_load(
            seconds=arguments.seconds,
            runs=arguments.runs,
            calls=arguments.calls or LOAD_CALLS,
            with_peer=not arguments.no_peer,
        )
        result = uvloop.run(measuring)
    elif arguments.cache:
        result = uvloop.run(measure_cache(runs=arguments.runs))
    elif arguments.soak:
        result = uvloop.run(measure_soak(calls=arguments.calls or HOUR_CALLS))
    else:
        result = uvloop.run(measure_decide(rate=arguments.rate, seconds=arguments.seconds))
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, nargs="+")
    parser.add_argument("--test", type=Path, nargs="+")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--decide", action="store_true")
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--runs", type=int, default=3, help="of --load and --cache")
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--calls", type=int, help="of --load, for memory, and of --soak")
    parser.add_argument("--no-peer", action="store_true", help="of --load")
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", action="store_true", help="printed anyway")
    arguments = parser.parse_args()
    if bool(arguments.train) != bool(arguments.test):
        parser.error("give --train and --test together")
    ways = (arguments.decide, arguments.load, arguments.cache, arguments.soak)
    if not (arguments.train or any(ways)):
        parser.error("give --train and --test, --decide, --load, --cache or --soak")
    return arguments


if __name__ == "__main__":
    main()
