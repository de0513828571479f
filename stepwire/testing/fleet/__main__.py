"""Runs a fleet until interrupted: `python -m stepwire.testing.fleet [PLAN.yaml]`."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import orjson
import uvloop

from stepwire.testing.fleet.fleet import run_plan
from stepwire.testing.fleet.plan import EndpointPlan, FleetPlan, load_plan


def main() -> None:
    """Starts the servers, says where they are on one line of JSON, and serves."""
    parser = argparse.ArgumentParser(
        prog="python -m stepwire.testing.fleet", description=__doc__.partition(":")[0]
    )
    parser.add_argument(
        "plan", type=Path, nargs="?", help="YAML file; without one, one server without faults"
    )
    path = parser.parse_args().plan
    try:
        plan = load_plan(path) if path else FleetPlan(endpoints=(EndpointPlan(name="provider"),))
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {error}")
    uvloop.run(_serve(plan))


async def _serve(plan: FleetPlan) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with run_plan(plan) as fleet:
        addresses = {name: each.base_url for name, each in fleet.endpoints.items()}
        sys.stdout.write(orjson.dumps(addresses).decode() + "\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    main()
